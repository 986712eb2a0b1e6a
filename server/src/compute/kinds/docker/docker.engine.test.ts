import { chmodSync, linkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeCertificates } from '../../../../../test/engines/docker/certificates.ts';
import { whyNoDocker } from '../../../../../test/engines/docker/docker-engine.ts';
import { SshHost, whyNoSshHost } from '../../../../../test/engines/ssh/ssh-host.ts';
import { driverSuite, kindSuite } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { type OnEngine, onEngine } from './docker.fixture.ts';

const named = (what: string, why = whyNoDocker) => `${what}${why ? ` (${why})` : ''}`;

describe.skipIf(whyNoDocker)(named('a Docker Engine'), () => {
  driverSuite('it', (server) => onEngine(server));
});

describe.skipIf(whyNoDocker)(named('such an engine, probed'), () => {
  let server: RealServer;
  let there: OnEngine;
  beforeAll(async () => {
    server = await RealServer.start();
    there = await onEngine(server);
  });
  afterAll(async () => {
    await there?.end();
    await server?.[Symbol.asyncDispose]();
  });
  type Settings = Target<'docker'>['settings'];
  const probe = (more: Partial<Settings> = {}) => there.driver().probe(there.targetWith(more));
  const flawOf = async (more: Partial<Settings> = {}) => (await probe(more)).findings.find(({ ok }) => !ok);
  const byTcp = (more: Partial<Settings> = {}): Partial<Settings> => ({
    address: there.engine.tcpAddress,
    ca: 'ca',
    certificate: 'certificate',
    key: 'key',
    ...more,
  });

  kindSuite('it', () => there.driver(), {
    workspace: 'suite',
    name: 'none',
    settings: { kind: 'docker', address: 'unix:///nowhere/docker.sock', image: 'base:1' },
  });

  test('is usable if all that is needed works, by its socket and by TCP, and is left as it was', async () => {
    for (const { usable, findings } of [await probe(), await probe(byTcp())]) {
      expect(usable, JSON.stringify(findings)).toBe(true);
      expect(findings.map(({ what }) => what)).toEqual(['address', 'limits', 'image', 'python', 'way back']);
      for (const { detail } of findings) expect(detail).toMatch(/^\p{Lu}?.+[.]$/u);
    }
    expect(there.engine.left()).toEqual([]);
  });

  test('is one engine, however it is reached, and has what its machine has', async () => {
    const driver = there.driver();
    const queues = [there.target, there.targetWith(byTcp())].map(async (target) => {
      const { cpus, memoryBytes, gpus } = await driver.capacity(target);
      expect(cpus).toBeGreaterThan(0);
      expect(memoryBytes).toBeGreaterThan(1e9);
      expect(gpus).toEqual([]);
      return driver.queue(target);
    });
    const [one, other] = await Promise.all(queues);
    expect(one).toBe(other);
  });

  test('tells what environments are resolved for: what the image has, not this machine', async () => {
    const platform = await there.driver().platform(there.target);
    expect(platform).toMatchObject({ platform: expect.stringMatching(/^linux-/), pythons: ['3.11'], conda: false });
    await expect(there.driver().platform(there.target, { name: '127.0.0.1:1/none:1' })).rejects.toMatchObject({
      retry: 'never',
    });
    expect(there.engine.left()).toEqual([]);
  });

  test('what is wrong with its address, image or Python is told, with what to do', async () => {
    there.engine.emptyImage('empty:1');
    const wrong: [string, Partial<Settings>, string][] = [
      ['address', { address: 'unix:///nowhere/docker.sock' }, 'cannot be reached'],
      ['address', byTcp({ address: 'tcp://127.0.0.1:1' }), 'cannot be reached'],
      ['image', { image: '127.0.0.1:1/none:1' }, 'cannot pull it'],
      ['python', { image: 'empty:1' }, 'cannot be used in the image empty:1'],
    ];
    for (const [what, more, detail] of wrong) {
      const flaw = await flawOf(more);
      expect(flaw).toMatchObject({ what, detail: expect.stringContaining(detail) });
      expect(flaw?.hint).toMatch(/[.]$/);
    }
    expect(there.engine.left()).toEqual([]);
  });

  test('an engine of another authority is told nothing, and one that is signed in to with another certificate refuses', async () => {
    makeCertificates(join(there.engine.folder, 'other'), '127.0.0.1');
    const { ca, certificate, key } = there.engine.certificatesIn('other');
    Object.assign(there.secrets, { 'other-ca': ca, 'other-certificate': certificate, 'other-key': key });
    for (const more of [{ ca: 'other-ca' }, { certificate: 'other-certificate', key: 'other-key' }])
      expect(await flawOf(byTcp(more))).toMatchObject({
        what: 'address',
        hint: expect.stringContaining('certificate'),
      });
  });

  test.skipIf(whyNoSshHost)(named('is reached by SSH', whyNoSshHost), async () => {
    await using host = await SshHost.up();
    linkSync(there.engine.socket, join(host.folder, 'docker.sock'));
    chmodSync(there.engine.socket, 0o666);
    there.secrets['ssh-key'] = host.key();
    const driver = there.driver();
    const address = `ssh://${host.user}@${host.address}:${host.port}/host/docker.sock`;
    const target = there.targetWith({ address, key: 'ssh-key', hostKey: host.hostKey });
    const { usable, findings } = await driver.probe(target);
    expect(usable, JSON.stringify(findings)).toBe(true);
    const unknown = await driver.probe(there.targetWith({ address, key: 'ssh-key' }));
    expect(unknown.findings).toMatchObject([{ what: 'host key', detail: expect.stringContaining(host.hostKey) }]);
    const nowhere = there.targetWith({
      address: address.replace('/host/', '/none/'),
      key: 'ssh-key',
      hostKey: host.hostKey,
    });
    const flaw = (await driver.probe(nowhere)).findings.find(({ ok }) => !ok);
    expect(flaw).toMatchObject({ what: 'address', detail: expect.stringContaining('/none/docker.sock') });
    const order = await server.order('print("through two doors", flush=True)\n');
    const { jobs } = driver;
    const handle = await jobs.start(target, order);
    await expect
      .poll(() => jobs.look(target, handle), { timeout: 60_000, interval: 500 })
      .toMatchObject({ state: 'ended' });
    expect(await server.run(order)).toMatchObject({ state: 'completed' });
    expect(await server.log(order)).toContain('through two doors');
    await jobs.cleanUp(target, handle);
    expect(await there.leftovers()).toEqual([]);
  });
});
