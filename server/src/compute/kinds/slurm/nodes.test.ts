import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import { runConfiguration } from '@stellwerk/contract/run-configuration.ts';
import { describe, expect, test } from 'vitest';
import { readAccounts } from './accounting.ts';
import { countsOf, flawsOf, readGroups } from './nodes.ts';
import { nodesOf, stateOf } from './scheduler.ts';

const told = `batch*|1|4|4000|gpu:a100:2|2:00:00|small,with-gpu|idle
batch*|2|4|4000+|(null)|2:00:00|small|mixed
large|3|64|512000|gpu:h100:8(S:0-1)|7-00:00:00|(null)|idle~
large|1|64|512000|gpu:h100:8|7-00:00:00|(null)|allocated#
open|1|8|16000|gpu:4|infinite|(null)|down*
`;
const groups = readGroups(told);
const flaw = (resources: object, more: object = {}) =>
  flawsOf(groups, { ...more } as SettingsOf<'slurm'>, runConfiguration.parse({ script: 'train.py', resources }))[0];

describe('what a cluster has', () => {
  test('is read as sinfo tells it', () => {
    expect(groups[1]).toEqual({
      partition: 'batch',
      isDefault: true,
      count: 2,
      cpus: 4,
      memoryMegabytes: 4000,
      gpus: {},
      limitSeconds: 7_200,
      features: ['small'],
      state: 'mixed',
    });
    expect(groups[2]).toMatchObject({ gpus: { h100: 8 }, limitSeconds: 604_800, features: [] });
    expect(groups[4]).toMatchObject({ gpus: { '': 4 } });
    expect(groups[4]!.limitSeconds).toBeUndefined();
  });

  test('is counted by what its nodes do', () => {
    expect(countsOf(groups)).toEqual({ idle: 1, running: 2, starting: 1, off: 3, down: 1 });
  });

  test.each<[object, object, string, string]>([
    [{ cpus: 5 }, {}, 'resources.cpus', 'has nodes of at most 4 CPUs'],
    [{ memory: '5GB' }, {}, 'resources.memory', 'has nodes of at most 4000 MB of memory'],
    [{ gpus: 3 }, {}, 'resources.gpus', 'has nodes of at most 2 GPUs'],
    [{ gpus: 1, gpuType: 'h100' }, {}, 'resources.gpuType', 'has GPUs of the types a100'],
    [{ gpus: 3, gpuType: 'a100' }, {}, 'resources.gpus', 'has nodes of at most 2 GPUs of the type a100'],
    [{ nodes: 4 }, {}, 'resources.nodes', 'has 3 such nodes'],
    [{ nodes: 2, gpus: 1 }, {}, 'resources.nodes', 'has 1 such nodes'],
    [{ timeLimit: '3h' }, {}, 'resources.timeLimit', 'has a time limit of 7200 s'],
    [{ nodes: 5 }, { partition: 'large' }, 'resources.nodes', 'has 4 such nodes in the partition large'],
    [{}, { partition: 'gone' }, 'target', 'has no nodes in the partition gone'],
    [{}, { constraint: 'fast' }, 'target', 'has no nodes with the feature fast'],
    [{ gpus: 1 }, { partition: 'batch', constraint: 'small' }, '', ''],
    [{ nodes: 2, gpus: 8, gpuType: 'h100', timeLimit: '100h' }, { partition: 'large' }, '', ''],
    [{ gpus: 4, timeLimit: '200d' }, { partition: 'open' }, '', ''],
  ])('%j with %j is refused if it can never be given', (resources, more, field, why) => {
    expect(flaw(resources, more)).toEqual(field === '' ? undefined : { field, why });
  });
});

test('a list of nodes is read as Slurm writes it', () => {
  expect(nodesOf('node[0-2,07],other,gpu-a[1-2]-x')).toEqual([
    'node0',
    'node1',
    'node2',
    'node07',
    'other',
    'gpu-a1-x',
    'gpu-a2-x',
  ]);
  expect(nodesOf('(null)')).toEqual([]);
  expect(nodesOf('')).toEqual([]);
});

test('accounts are read: the peak of all steps, time with days, signals as exit codes', () => {
  const text =
    '7|CANCELLED by 0|0:9||1-02:00:03.5\n7.batch|CANCELLED|0:9|113364K|00:01.000\n7.0|CANCELLED|0:9|2.5G|00:02.000\n';
  expect(readAccounts(text, '7')).toEqual({
    state: 'CANCELLED',
    usage: { exitCode: 137, cpuSeconds: 93_603.5, peakMemoryBytes: 2.5 * 2 ** 30 },
  });
  expect(readAccounts('', '7')).toEqual({});
});

test.each([
  ['NODE_FAIL', 'node-lost'],
  ['BOOT_FAIL', 'node-lost'],
  ['PREEMPTED', 'preempted'],
  ['TIMEOUT', 'time-limit'],
  ['DEADLINE', 'time-limit'],
  ['OUT_OF_MEMORY', 'out-of-memory'],
  ['CANCELLED', 'canceled'],
])('a job that ended as %s ended for %s', (state, cause) => {
  const job = { id: '7', name: 'n', state, reason: 'None', nodes: [] };
  expect(stateOf(job)).toMatchObject({ state: 'ended', cause, facts: { id: '7' } });
});
