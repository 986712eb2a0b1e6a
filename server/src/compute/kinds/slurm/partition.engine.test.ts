import { setTimeout as pause } from 'node:timers/promises';
import type { ProvisioningOf } from '@stellwerk/contract/compute-kinds/provisioning.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { whyNoSlurm } from '../../../../../test/engines/slurm/packages.ts';
import type { Target } from '../../driver.ts';
import { RealServer } from '../../real-server.fixture.ts';
import { leftoversOn, type OnCluster, onCluster, targetOn } from './slurm.fixture.ts';

const place = { workspace: 'suite', name: 'Made for us' };
const wanted = (more: Partial<ProvisioningOf<'slurm'>>): ProvisioningOf<'slurm'> => {
  const plain = { kind: 'slurm', on: 'cluster', minNodes: 0, maxNodes: 2, idleSecondsBeforeScaleDown: 120 } as const;
  return { ...plain, ...more };
};

describe.skipIf(whyNoSlurm)(`a partition of its own${whyNoSlurm ? ` (${whyNoSlurm})` : ''}`, () => {
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
  const base = () => targetOn(there.cluster, { user: 'chief', key: 'chief-key' }) as Target;
  const nodesOf = (partition: string) => there.cluster.shell(`scontrol show partition ${partition} -o || true`);
  async function until(what: () => Promise<boolean> | boolean, name: string): Promise<void> {
    for (let tries = 0; tries < 600; tries++, await pause(200)) if (await what()) return;
    throw new Error(`${name} did not happen: ${there.cluster.shell('sinfo; squeue -a')}`);
  }

  test('is made with so many nodes of the wanted features, changed, used by jobs that switch its nodes on, and removed', async () => {
    const { lifetime } = there.driver();
    const settings = await lifetime.provide(place, wanted({ vmSize: 'standard_d4', maxNodes: 1 }), base());
    expect(settings.partition).toMatch(/^stellwerk-made-for-us-[0-9a-f]{8}$/);
    expect(nodesOf(settings.partition!)).toMatch(/ Nodes=cloud0 /);
    expect(await lifetime.provide(place, wanted({ vmSize: 'standard_d4' }), base())).toEqual(settings);
    expect(nodesOf(settings.partition!)).toMatch(/ Nodes=cloud\[0-1\] /);
    const target = { ...place, settings };
    expect(await there.driver().nodes(target)).toEqual({ idle: 0, running: 0, starting: 0, off: 2 });
    const order = await server.order(
      'import os, time\nprint("on", os.uname().nodename, flush=True)\ntime.sleep(600)\n',
    );
    const driver = there.driver();
    const handle = await driver.jobs.start(target, order);
    await until(async () => (await driver.nodes(target)).starting === 1, 'the start of a node');
    await until(async () => (await server.log(order)).includes('on cloud'), 'the run');
    expect(await driver.nodes(target)).toEqual({ idle: 0, running: 1, starting: 0, off: 1 });
    await driver.jobs.cancel(target, handle, 'kill');
    await driver.jobs.cleanUp(target, handle);
    await until(async () => (await driver.nodes(target)).off === 2, 'the end of the nodes that are not needed');
    for (let twice = 0; twice < 2; twice++) await lifetime.remove(place, wanted({}), base());
    expect(nodesOf(settings.partition!)).toContain('not found');
    expect(leftoversOn(there.cluster)).toEqual([]);
  });

  test('nodes that are always on come first, and others are switched on for the least number', async () => {
    const { lifetime } = there.driver();
    const told: string[] = [];
    const log = (line: string) => told.push(line);
    const settings = await lifetime.provide(place, wanted({ minNodes: 4, maxNodes: 5 }), base(), { log });
    expect(nodesOf(settings.partition!)).toMatch(/ Nodes=cloud\[0-1\],node\[0-2\] /);
    expect(told.join('\n')).toContain('SuspendExcNodes');
    const driver = there.driver();
    await until(async () => (await driver.nodes({ ...place, settings })).idle === 4, 'four nodes that are on');
    await lifetime.remove(place, wanted({}), base());
  });

  test('a node that was idle for long enough is switched off, and one of the least number is switched on again', async () => {
    const { lifetime } = there.driver();
    const conf = '/etc/slurm/slurm.conf';
    there.cluster.shell(`sed -i 's/^SuspendTime=.*/SuspendTime=3600/' ${conf} && scontrol reconfigure`);
    const asked = wanted({ vmSize: 'standard_d4', minNodes: 1, idleSecondsBeforeScaleDown: 5 });
    const settings = await lifetime.provide(place, asked, base());
    const nodes = () => there.driver().nodes({ ...place, settings });
    there.cluster.shell('scontrol update NodeName=cloud1 State=POWER_UP');
    await until(async () => (await nodes()).idle === 2, 'two nodes that are on');
    const tended = async () => {
      await lifetime.tend(place, asked, base());
      return nodes();
    };
    await until(async () => (await tended()).off === 1, 'the end of the node that is not needed');
    expect(await tended()).toMatchObject({ idle: 1, off: 1 });
    there.cluster.shell('scontrol update NodeName=cloud0 State=POWER_DOWN');
    await until(async () => (await nodes()).off === 2, 'the end of both nodes');
    await until(async () => (await tended()).idle === 1, 'the node that is to be on');
    const states = there.cluster.shell('sinfo -h -N -n cloud[0-1] -p elastic -o "%N %T"');
    expect(states).toMatch(/cloud0 idle\n/);
    await lifetime.remove(place, asked, base());
    there.cluster.shell(`sed -i 's/^SuspendTime=.*/SuspendTime=10/' ${conf} && scontrol reconfigure`);
  });

  test('features that no node has are refused with those that there are, and so are more nodes than are free', async () => {
    const { lifetime } = there.driver();
    const features = expect.stringContaining('it has cloud, small, standard_d4, with-gpu');
    await expect(lifetime.provide(place, wanted({ vmSize: 'NC6' }), base())).rejects.toMatchObject({
      retry: 'never',
      message: features,
    });
    const other = { ...place, name: 'other' };
    await lifetime.provide(other, wanted({ vmSize: 'cloud' }), base());
    const few = {
      retry: 'never',
      message: expect.stringContaining('has 1 such nodes that no other target was made of, not 2'),
    };
    await expect(lifetime.provide(place, wanted({ vmSize: 'cloud' }), base())).rejects.toMatchObject(few);
    await lifetime.remove(other, wanted({}), base());
  });

  test('who may not change the cluster is told what is needed', async () => {
    const { lifetime } = there.driver();
    const refused = { retry: 'never', message: expect.stringContaining('administrator of the cluster') };
    await expect(lifetime.provide(place, wanted({}), targetOn(there.cluster) as Target)).rejects.toMatchObject(refused);
  });
});
