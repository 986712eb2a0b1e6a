// The suite of jobs is not for this kind: nothing is started on a machine that belongs to somebody else.
import { expect, test } from 'vitest';
import { kindSuite } from '../../driver.suite.ts';
import { localDriver } from './local.ts';

const target = { workspace: 'w', name: 'local', settings: { kind: 'local' as const } };

kindSuite('the local computer', () => localDriver, target);

test('the local computer is just there; nothing is started on it from here, and it hosts no web services', async () => {
  expect(await localDriver.probe(target)).toMatchObject({ usable: true });
  expect(localDriver.jobs).toBeUndefined();
  expect(localDriver.hostsServices).toBe(false);
});
