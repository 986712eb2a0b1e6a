import { chmodSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoDocker } from '../../../../../test/engines/docker/docker-engine.ts';
import { whyNoSshHost } from '../../../../../test/engines/ssh/ssh-host.ts';
import { driverSuite, type Tried } from '../../driver.suite.ts';
import type { ComputeDriver, JobOrder, RunsJobs, Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { HostDriver, type HostNeeds } from '../host/host.ts';
import { onHost, targetOn } from '../ssh/ssh.fixture.ts';
import { type OnEngine, onEngine } from './docker.fixture.ts';

const named = (what: string, why = whyNoDocker) => `${what}${why ? ` (${why})` : ''}`;

function inImage(order: JobOrder, image: string): JobOrder {
  const configuration = { ...order.job.configuration, container: { image, environment: 'at-start' as const } };
  return { ...order, job: { ...order.job, configuration } };
}

interface OnThisHost extends Tried<'host'> {
  driver(): HostDriver;
}

async function hostWith(server: RealServer, there: OnEngine): Promise<OnThisHost> {
  const folder = join(server.folder, 'host');
  mkdirSync(folder, { recursive: true });
  const needs: HostNeeds = {
    folder,
    isolatedFolder: join(folder, 'isolated'),
    dataFolder: folder,
    pythonPackage: 'none',
    cacheFolder: folder,
    inherited: {},
    uv: async () => 'uv',
  };
  return {
    driver: () => new HostDriver(needs, there.driver()),
    target: { workspace: 'suite', name: 'host', settings: { kind: 'host', dockerSocket: there.engine.socket } },
    leftovers: async () => [...readdirSync(folder), ...(await there.leftovers())],
    alive: there.alive!,
    end: there.end,
  };
}

describe.skipIf(whyNoDocker)(named('the host, its runs in containers'), () => {
  driverSuite(
    'it',
    async (server) => {
      const there = await onEngine(server);
      const tried = await hostWith(server, there);
      const always = (jobs: RunsJobs<'host'>): RunsJobs<'host'> => ({
        ...jobs,
        start: (target, order) => jobs.start(target, inImage(order, there.engine.image)),
      });
      const driver = (): ComputeDriver<'host'> => {
        const made = tried.driver();
        return {
          kind: 'host',
          hostsServices: true,
          probe: (target) => made.probe(target),
          queue: () => made.queue(),
          reach: () => made.reach(),
          jobs: always(made.jobs),
        };
      };
      return { ...tried, driver };
    },
    'own',
  );
});

describe.skipIf(whyNoDocker)(named('a machine with an engine, its runs in containers'), () => {
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
  const wanting = { container: { image: 'base:1' } } as RunConfiguration;

  test('a host without an engine that answers refuses them, and only them', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'contained-'));
    const { driver } = await hostWith(server, there);
    const target: Target<'host'> = {
      workspace: 'suite',
      name: 'host',
      settings: { kind: 'host', dockerSocket: join(folder, 'none.sock') },
    };
    expect(await driver().flaws(target, {} as RunConfiguration)).toEqual([]);
    expect(await driver().flaws(target, wanting)).toMatchObject([
      { field: 'container', why: expect.stringContaining('cannot be reached') },
    ]);
    rmSync(folder, { recursive: true });
  });

  test('environments are resolved for what the image has', async () => {
    const { driver, target } = await hostWith(server, there);
    expect(await driver().platform(target)).toBeUndefined();
    expect(await driver().platform(target, { name: there.engine.image })).toMatchObject({ pythons: ['3.11'] });
    expect(await driver().flaws(target, wanting)).toEqual([]);
  });

  test.skipIf(whyNoSshHost)(named('a machine by ssh runs them on the engine that is there', whyNoSshHost), async () => {
    const over = await onHost(server);
    try {
      linkSync(there.engine.socket, join(over.host.folder, 'docker.sock'));
      chmodSync(there.engine.socket, 0o666);
      const none = targetOn(over.host);
      expect(await over.driver().flaws(none, wanting)).toMatchObject([{ field: 'container' }]);
      const target = targetOn(over.host, { dockerSocket: '/host/docker.sock' });
      const driver = over.driver();
      expect(await driver.flaws(target, wanting)).toEqual([]);
      const order = inImage(
        await server.order('import os\nprint("in", os.getcwd(), flush=True)\n'),
        there.engine.image,
      );
      const handle = await driver.jobs.start(target, order);
      const look = () => driver.jobs.look(target, handle);
      await expect.poll(look, { timeout: 60_000, interval: 500 }).toMatchObject({ state: 'ended' });
      await driver.jobs.recover(target, handle);
      await driver.jobs.cleanUp(target, handle);
      expect(await server.run(order)).toMatchObject({ state: 'completed' });
      expect(await server.log(order)).toContain('in /opt/stellwerk/');
      expect([...(await there.leftovers()), ...over.host.processes()]).toEqual([]);
    } finally {
      await over.end();
    }
  });
});
