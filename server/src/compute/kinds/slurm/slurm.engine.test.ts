import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newerRelease, whyNoNewerRelease } from '../../../../../test/engines/slurm/newer-release.ts';
import { whyNoSlurm } from '../../../../../test/engines/slurm/packages.ts';
import { leadingUrl } from '../../../../../test/engines/slurm/slurm-cluster.ts';
import { driverSuite } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnCluster, onCluster, onClusterByRest, targetOn } from './slurm.fixture.ts';

const named = (what: string) => `${what}${whyNoSlurm ? ` (${whyNoSlurm})` : ''}`;

describe.skipIf(whyNoSlurm)(named('a Slurm cluster'), () => {
  driverSuite('it', (server) => onCluster(server));
});

describe.skipIf(whyNoSlurm)(named('a Slurm cluster by its REST interface'), () => {
  driverSuite('it', (server) => onCluster(server, ({ restUrl }) => ({ restUrl, token: 'trainer-token' })));
});

const whyNoLater = await whyNoNewerRelease();
describe.skipIf(whyNoLater)(
  `a Slurm cluster of today by its REST interface alone${whyNoLater ? ` (${whyNoLater})` : ''}`,
  () => {
    beforeAll(() => void newerRelease(), 900_000); // made once on a machine
    driverSuite('it', (server) => onClusterByRest(server, { root: newerRelease() }), 'own', leadingUrl);
  },
);

describe.skipIf(whyNoSlurm)(named('a Slurm cluster by its REST interface alone, probed'), () => {
  let server: RealServer;
  let there: OnCluster;
  beforeAll(async () => {
    server = await RealServer.start(leadingUrl);
    there = await onClusterByRest(server);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });
  type More = Partial<Target<'slurm'>['settings']>;
  const targetWith = (more: More): Target<'slurm'> => ({
    ...there.target,
    settings: { ...there.target.settings, ...more },
  });
  const probe = (more: More = {}) => there.driver().probe(targetWith(more));

  test('is usable if all that is needed works, and is left as it was', async () => {
    const { usable, findings } = await probe();
    expect(usable, JSON.stringify(findings)).toBe(true);
    expect(findings.map(({ what }) => what)).toEqual(['rest', 'partition', 'python', 'way back']);
    for (const { detail } of findings) expect(detail).toMatch(/^\p{Lu}?.+[.]$/u);
    expect(await there.leftovers()).toEqual([]);
  });

  test.each<[string, More, string]>([
    ['rest', { token: 'wrong' }, 'refused the token of trainer'],
    ['rest', { token: undefined }, 'no token'],
    ['partition', { partition: 'gone' }, 'no partition gone'],
    ['python', { python: '/usr/bin/no-python' }, 'cannot be started'],
  ])('what is wrong with its %s is told, with what to do (%j)', async (what, more, detail) => {
    const flaw = (await probe(more)).findings.find(({ ok }) => !ok);
    expect(flaw).toMatchObject({ what, detail: expect.stringContaining(detail) });
    expect(flaw?.hint).toMatch(/[.]$/);
  });

  test('nodes that do not reach this server are told, with what to do', async () => {
    const findings = (await there.driver('http://127.0.0.1:9').probe(there.target)).findings;
    expect(findings.at(-1)).toMatchObject({
      what: 'way back',
      ok: false,
      detail: expect.stringMatching(/^A node does not reach this server: .*127[.]0[.]0[.]1:9 .*refused[.]$/),
      hint: expect.stringContaining('--public-url'),
    });
    expect(await there.leftovers()).toEqual([]);
  });

  test('what the runner of a job left that Slurm has forgotten is delivered, and goes', async () => {
    const order = await server.order('import time\nprint("ready", flush=True)\ntime.sleep(600)\n');
    const { jobs } = there.driver();
    const handle = await jobs.start(there.target, order);
    await expect.poll(() => server.log(order), { timeout: 60_000, interval: 200 }).toBe('ready\n');
    there.cluster.shell('pkill -9 -u trainer; sed -i s/^MinJobAge=.*/MinJobAge=2/ /etc/slurm/slurm.conf');
    there.cluster.shell('kill $(cat /run/slurmctld.pid); sleep 2; slurmctld');
    await expect
      .poll(() => jobs.look(there.target, handle).catch(() => {}), { timeout: 60_000, interval: 200 })
      .toEqual({ state: 'ended', reason: 'Slurm knows nothing of its job any more.' });
    expect(await there.leftovers()).toHaveLength(1);
    await jobs.recover(there.target, handle);
    await jobs.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
    await jobs.cleanUp(there.target, handle);
  });

  test('its nodes are known; what they can never give is refused at submit', async () => {
    expect(await there.driver().nodes(there.target)).toEqual({ idle: 3, running: 0, starting: 0, off: 0 });
    expect(await there.driver().nodes(targetWith({ partition: 'elastic' }))).toMatchObject({ idle: 0, off: 3 });
    const { job } = await server.order('print(1)\n', { resources: { gpus: 3, gpuType: 'a100' } });
    const flaws = await there.driver().flaws(there.target, job.configuration);
    expect(flaws).toMatchObject([{ field: 'resources.gpus', why: expect.stringContaining('at most 2 GPUs') }]);
    expect(there.driver().queue(there.target)).toBe(`slurm ${there.cluster.restUrl}`);
    expect(there.driver().reach(there.target)).toBe('elsewhere');
  });

  test('a script is on several nodes; what its job took is told', async () => {
    const script =
      'import os, time\nprint("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], flush=True)\ntime.sleep(3)\n';
    const order = await server.order(script);
    Object.assign(order.job.resources, { nodes: 2 });
    const { jobs } = there.driver();
    const handle = await jobs.start(there.target, order);
    const look = () => jobs.look(there.target, handle);
    await expect.poll(async () => (await look()).state, { timeout: 60_000, interval: 200 }).toBe('ended');
    expect(await server.run(order)).toMatchObject({ state: 'completed' });
    expect((await server.log(order)).split('\n').sort()).toEqual(['', 'rank 0 of 2', 'rank 1 of 2']);
    const usage = { exitCode: 0, peakMemoryBytes: expect.any(Number) }; // accounts come some time later
    await expect.poll(look, { timeout: 60_000, interval: 500 }).toMatchObject({ usage });
    await jobs.cleanUp(there.target, handle);
    expect(await there.leftovers()).toEqual([]);
  });

  test('what needs a login node says so', async () => {
    const needs = { retry: 'never', message: expect.stringContaining('login node') };
    await expect(there.driver().jobs.beside(there.target, { folder: 'x', name: 'x' }, [])).rejects.toMatchObject(needs);
    const wanted = { kind: 'slurm', on: 'cluster', minNodes: 0, maxNodes: 1, idleSecondsBeforeScaleDown: 120 } as const;
    await expect(there.driver().lifetime.provide(there.target, wanted, there.target as Target)).rejects.toMatchObject(
      needs,
    );
  });
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
