import { expect, test } from 'vitest';
import { whyNoNode } from './words.ts';

const asked = { cpu: '64', memory: '512G', 'nvidia.com/gpu': '8' };

test.each([
  [
    '0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.',
    'No node has 64 free CPUs.',
  ],
  [
    '0/3 nodes are available: 3 Insufficient memory. no new claims to deallocate, preemption: not eligible due to x.',
    'No node has 512 GB of free memory.',
  ],
  ['0/3 nodes are available: 3 Insufficient nvidia.com/gpu.', 'No node has 8 free GPUs.'],
  [
    "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available.",
    'No node has the labels that are asked for.',
  ],
  [
    '0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s) {team: vision}. preemption: x.',
    'No node can take it: there are not 64 free CPUs on 1 of 3 nodes, there is a taint that the target does not tolerate ({team: vision}) on 2 of 3 nodes.',
  ],
  [
    '0/1 nodes are available: 1 node(s) were unschedulable. preemption: x.',
    'No node can take it: no new pods are let in on 1 of 1 node.',
  ],
  ['no nodes available to schedule pods', 'No node takes it: no nodes available to schedule pods.'],
])('what the scheduler tells is said in the words of whoever asked: %s', (message, words) => {
  expect(whyNoNode(message, asked)).toBe(words);
});

test.each([
  ['1k', 'No node has 1000 free CPUs.'],
  ['500m', 'No node has 0.5 free CPUs.'],
])('%s is read as clusters write it', (cpu, words) => {
  expect(whyNoNode('0/1 nodes are available: 1 Insufficient cpu.', { cpu })).toBe(words);
});
