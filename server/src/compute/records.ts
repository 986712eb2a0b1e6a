// From the row of a compute target to what is seen of it, and to what is used of it.
import type { ComputeTarget } from '@stellwerk/contract/compute.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import type { Target } from './driver.ts';
import type { Load } from './open-runs.ts';
import type { ComputeRow } from './store.ts';

/** What one has that nothing more is known of. */
export const plainRow = {
  state: 'usable',
  reason: null,
  description: null,
  tags: '{}',
  provisioning: null,
  base: null,
  wanted: null,
  activity: null,
} as const satisfies Partial<ComputeRow>;

const always = new Date(0).toISOString();

/** One that is there by itself, and has no row. */
export function builtIn(workspace: string, kind: 'host' | 'local'): ComputeRow {
  const settings = JSON.stringify({ kind });
  return { ...plainRow, workspace, name: kind, kind, settings, created_at: always, created_by: 'stellwerk' };
}

export function isBuiltIn(row: ComputeRow): boolean {
  return row.created_at === always;
}

/** The settings of one that is yet to be made. */
export const notMade = '{}';

export function isMade({ settings }: Pick<ComputeRow, 'settings'>): boolean {
  return settings !== notMade;
}

/** Whether nothing is being done with it that changes how it is used. */
export function isReady(row: ComputeRow): boolean {
  return isMade(row) && (row.state === 'usable' || row.state === 'failed');
}

export function requireReady(row: ComputeRow): void {
  if (isReady(row)) return;
  const why = row.reason === null ? `is ${row.state}.` : `is not usable: ${row.reason}`;
  throw new ServiceError('failed-precondition', 'compute.not-ready', `The compute target ${row.name} ${why}`, {
    state: row.state,
  });
}

export function targetOf(row: ComputeRow): Target {
  return { workspace: row.workspace, name: row.name, settings: JSON.parse(row.settings) };
}

export function recordOf(
  row: ComputeRow,
  known: { flaw: string | undefined; hostsServices: boolean; load: Load | undefined },
): ComputeTarget {
  const reason = known.flaw ?? row.reason;
  return {
    name: row.name,
    kind: row.kind,
    ...(isMade(row) && { settings: targetOf(row).settings }),
    created: row.provisioning !== null,
    ...(row.provisioning !== null && { provisioning: JSON.parse(row.provisioning) }),
    ...(row.activity !== null && { activity: row.activity }),
    state: known.flaw ? 'failed' : row.state,
    ...(reason !== null && { reason }),
    trains: true,
    hostsServices: known.hostsServices,
    ...(row.description !== null && { description: row.description }),
    tags: JSON.parse(row.tags),
    ...(known.load ?? { queued: 0, running: 0 }),
    createdAt: row.created_at,
    createdBy: row.created_by,
  };
}
