import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoSlurm } from '../../../../../test/engines/slurm/packages.ts';
import { driverSuite } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnCluster, onCluster, targetOn } from './slurm.fixture.ts';

const named = (what: string) => `${what}${whyNoSlurm ? ` (${whyNoSlurm})` : ''}`;

describe.skipIf(whyNoSlurm)(named('a Slurm cluster'), () => {
  driverSuite('it', (server) => onCluster(server));
});

describe.skipIf(whyNoSlurm)(named('a Slurm cluster by its REST interface'), () => {
  driverSuite('it', (server) => onCluster(server, ({ restUrl }) => ({ restUrl, token: 'trainer-token' })));
});

describe.skipIf(whyNoSlurm)(named('a Slurm cluster, probed'), () => {
  let server: RealServer;
  let there: OnCluster;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onCluster(server);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });
  type More = Partial<Target<'slurm'>['settings']>;
  const probe = (more: More = {}) => there.driver().probe(targetOn(there.cluster, more));

  test('is usable if all that is needed works, and is left as it was', async () => {
    const { restUrl } = there.cluster;
    const before = there.cluster.shell('ls -A /srv/* /tmp');
    const users = { ada: { user: 'alice', key: 'alice-key' } };
    const { usable, findings } = await probe({ restUrl, token: 'trainer-token', users });
    expect(usable, JSON.stringify(findings)).toBe(true);
    const all = ['address', 'host key', 'sign-in', 'disk', 'python', 'way back', 'slurm', 'partition', 'rest'];
    expect(findings.map(({ what }) => what)).toEqual([...all, 'sign-in of ada']);
    for (const { detail } of findings) expect(detail).toMatch(/^\p{Lu}?.+[.]$/u);
    expect(there.cluster.shell('ls -A /srv/* /tmp')).toBe(before);
    expect(there.driver().queue(there.target)).toBe(there.driver().queue(there.target));
  });

  test.each<[string, More, string]>([
    ['address', { port: 1 }, 'cannot be reached'],
    ['host key', { hostKey: `SHA256:${'A'.repeat(43)}` }, 'another host key'],
    ['sign-in', { key: undefined, password: 'wrong' }, 'refused the sign-in'],
    ['python', { python: '/usr/bin/no-python' }, 'cannot be used'],
    ['disk', { folder: '/proc/runs' }, 'cannot be written'],
    ['partition', { partition: 'gone' }, 'no partition gone'],
    ['rest', { restUrl: 'http://10.255.255.1:1', token: 'trainer-token' }, 'cannot be reached'],
    ['sign-in of ada', { users: { ada: { user: 'alice', key: 'trainer-key' } } }, 'refused the sign-in'],
  ])('what is wrong with its %s is told, with what to do', async (what, more, detail) => {
    const flaw = (await probe(more)).findings.find(({ ok }) => !ok);
    expect(flaw).toMatchObject({ what, detail: expect.stringContaining(detail) });
    expect(flaw?.hint).toMatch(/[.]$/);
  });

  test('a REST interface that refuses the token, or has no such version, is not usable', async () => {
    const { restUrl } = there.cluster;
    const refused = (await probe({ restUrl, token: 'wrong' })).findings.find(({ ok }) => !ok);
    expect(refused).toMatchObject({ what: 'rest', detail: expect.stringContaining('refused the token of trainer') });
    const old = { restUrl, token: 'trainer-token', restVersion: 'v0.0.1' };
    expect((await probe(old)).findings.find(({ ok }) => !ok)).toMatchObject({ what: 'rest' });
  });

  test('a login node without Slurm, and a controller that is away, are told', async () => {
    const moved = 'mv /usr/bin/sbatch /usr/bin/sbatch.away';
    there.cluster.shell(moved);
    const without = (await probe()).findings.find(({ ok }) => !ok);
    there.cluster.shell('mv /usr/bin/sbatch.away /usr/bin/sbatch; kill $(cat /run/slurmctld.pid)');
    expect(without).toMatchObject({ what: 'slurm', detail: expect.stringContaining('sbatch') });
    const away = (await probe()).findings.find(({ ok }) => !ok);
    there.cluster.shell('sleep 1; slurmctld');
    expect(away).toMatchObject({ what: 'slurm', hint: expect.stringContaining('slurmctld') });
  });
});
