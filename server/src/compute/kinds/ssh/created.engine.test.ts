import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DockerEngine, whyNoDocker } from '../../../../../test/engines/docker/docker-engine.ts';
import { wheelPath } from '../../../assets.ts';
import { connectTo } from '../../../installation.ts';
import type { Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { DockerDriver } from '../docker/docker.ts';
import { SshDriver } from './ssh.ts';

describe.skipIf(whyNoDocker)(
  `a machine that is made on a Docker Engine${whyNoDocker ? ` (${whyNoDocker})` : ''}`,
  () => {
    let server: RealServer;
    let engine: DockerEngine;
    let vault: Map<string, string>;
    let driver: SshDriver;
    let on: Target;
    const place = { workspace: 'suite', name: 'Made' };
    const wanted = { kind: 'ssh' as const, on: 'engine' };

    beforeAll(async () => {
      server = await RealServer.start();
      engine = await DockerEngine.up();
      const { ca, certificate, key } = engine.certificates;
      vault = new Map(Object.entries({ ca, certificate, key }));
      const needs = {
        installation: 'suite',
        pythonPackage: (await wheelPath())!,
        secret: async (_: unknown, name: string) => vault.get(name)!,
        secrets: {
          has: async (_: string, name: string) => vault.has(name),
          keep: async (_: string, name: string, value: string) => void vault.set(name, value),
          drop: async (_: string, name: string) => void vault.delete(name),
        },
        connectHere: () => connectTo(server.url),
      };
      driver = new SshDriver(needs, new DockerDriver(needs));
      const signIn = { ca: 'ca', certificate: 'certificate', key: 'key' };
      const settings = { kind: 'docker' as const, address: engine.tcpAddress, image: engine.image, ...signIn };
      on = { workspace: 'suite', name: 'engine', settings };
    });
    afterAll(async () => {
      await engine?.down();
      await server?.[Symbol.asyncDispose]();
    });

    test('is usable at once by a key of its own, trains, and is one however often it is asked for', async () => {
      const settings = await driver.lifetime.provide(place, { ...wanted, cpus: 1, memory: '512MiB' }, on);
      expect(settings).toMatchObject({
        kind: 'ssh',
        key: 'Made-machine-key',
        hostKey: expect.stringMatching(/^ssh-ed25519 /),
      });
      expect(vault.get('Made-machine-key')).toContain('PRIVATE KEY');
      const target = { ...place, settings };
      const { usable, findings } = await driver.probe(target);
      expect(usable, JSON.stringify(findings)).toBe(true);
      const order = await server.order('import os\nprint("on", os.uname().nodename, flush=True)\n');
      const handle = await driver.jobs.start(target, order);
      const look = () => driver.jobs.look(target, handle);
      await expect.poll(look, { timeout: 60_000, interval: 500 }).toMatchObject({ state: 'ended' });
      expect(await server.log(order)).toContain('on made');
      await driver.jobs.cleanUp(target, handle);
      expect(await driver.lifetime.provide(place, { ...wanted, cpus: 2, memory: '1GiB' }, on)).toEqual(settings);
      const [container] = engine.left().map((line) => line.split(' ')[0]!);
      const [{ HostConfig }] = JSON.parse(engine.docker('inspect', container!));
      expect(HostConfig).toMatchObject({ NanoCpus: 2e9, Memory: 2 ** 30, MemorySwap: 2 ** 30 });
    });

    test('is there again, with what it had, after its engine was switched off', async () => {
      const before = await driver.lifetime.provide(place, wanted, on);
      const [container] = engine.left().map((line) => line.split(' ')[0]!);
      engine.docker('exec', container!, 'touch', '/srv/trainer/kept');
      await engine.crash();
      await engine.start();
      expect(await driver.lifetime.provide(place, wanted, on)).toEqual(before);
      engine.docker('exec', container!, 'test', '-e', '/srv/trainer/kept');
    });

    test('goes with all that was made for it, and may be removed twice', async () => {
      await driver.lifetime.remove(place, wanted, on);
      await driver.lifetime.remove(place, wanted, on);
      expect(engine.left()).toEqual([]);
      expect(vault.has('Made-machine-key')).toBe(false);
    });

    test('an image without sshd cannot be one, which is said', async () => {
      engine.docker('create', '--name', 'making', engine.image, 'true');
      engine.docker('commit', 'making', 'any:1');
      engine.docker('rm', 'making');
      engine.docker('run', '--name', 'making', 'any:1', 'rm', '-f', '/usr/sbin/sshd');
      engine.docker('commit', 'making', 'no-sshd:1');
      engine.docker('rm', 'making');
      await expect(driver.lifetime.provide(place, { ...wanted, image: 'no-sshd:1' }, on)).rejects.toMatchObject({
        retry: 'never',
        message: expect.stringContaining('there is no sshd in it'),
      });
      await driver.lifetime.remove(place, wanted, on);
      expect(engine.left()).toEqual([]);
    });
  },
);
