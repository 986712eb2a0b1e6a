import { activityKind } from '@stellwerk/contract/activity.ts';
import { expect, test } from 'vitest';
import { dieAtEachPoint, longMs, onEngines, stories } from './stories.ts';

test('every kind of activity has its story', () => {
  expect([...Object.keys(stories), ...onEngines].sort()).toEqual([...activityKind.options].sort());
});

test(
  'a compute target is attached, changed and detached, wherever the server dies',
  () => dieAtEachPoint('compute.attach', 'compute.update', 'compute.detach'),
  longMs,
);

test('a run is executed once, wherever the server dies', () => dieAtEachPoint('run'), longMs);

test(
  'what a query selects is archived and deleted, and the trash is emptied, wherever the server dies',
  () => dieAtEachPoint('runs.archive', 'runs.delete', 'trash.empty'),
  longMs,
);
