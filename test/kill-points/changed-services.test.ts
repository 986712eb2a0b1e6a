import { expect, test } from 'vitest';
import { typed } from '../typing.ts';
import { below, dieAtEachPoint, happens, installation, longMs } from './stories.ts';

test(
  'a web service is updated and scaled to what is wanted, wherever the server dies',
  async () => {
    await happens('web-service.deploy', {});
    await dieAtEachPoint('web-service.update');
    await dieAtEachPoint('web-service.scale', 'web-service.scale');
    const verified = await typed(installation, 'verify', '--data', below());
    expect(verified).toContain('All is there and right.');
  },
  longMs,
);
