// What is asked of Slurm about a job, whether by its commands or by its REST interface; and what its states mean to us.
import type { JobState } from '../../driver.ts';
import type { Wanted } from './batch.ts';

/** A job as Slurm tells of it. */
export interface SeenJob {
  id: string;
  name: string;
  state: string;
  reason: string;
  nodes: string[];
  /** Among those that wait for the same partition. */
  position?: number;
  /** What was noted on it. */
  comment?: string;
  exitCode?: number;
}

export interface Scheduler {
  /** Gives the number of the job. */
  submit(wanted: Wanted): Promise<string>;
  /** All that it knows of the user's jobs of a name, ended ones too, the oldest first. */
  find(name: string): Promise<SeenJob[]>;
  /** `ask`: only the runner hears of it; a job that waits is ended. */
  cancel(job: SeenJob, how: 'ask' | 'kill'): Promise<void>;
}

const waiting = new Set([
  'PENDING',
  'CONFIGURING',
  'REQUEUED',
  'REQUEUE_FED',
  'REQUEUE_HOLD',
  'RESV_DEL_HOLD',
  'SPECIAL_EXIT',
]);
const going = new Set(['RUNNING', 'COMPLETING', 'SUSPENDED', 'STOPPED', 'SIGNALING', 'STAGE_OUT', 'RESIZING']);

type Ended = Extract<JobState, { state: 'ended' }>;

/** Why a job ended that its runner said nothing of. */
const ends: Record<string, Pick<Ended, 'cause' | 'reason'>> = {
  PREEMPTED: { cause: 'preempted', reason: 'Slurm took its place for a job of a higher priority (PREEMPTED).' },
  NODE_FAIL: { cause: 'node-lost', reason: 'A node that it ran on failed (NODE_FAIL).' },
  BOOT_FAIL: { cause: 'node-lost', reason: 'A node for it could not be started (BOOT_FAIL).' },
  TIMEOUT: { cause: 'time-limit', reason: "It was ended at the cluster's time limit (TIMEOUT)." },
  DEADLINE: { cause: 'time-limit', reason: 'It was ended at its deadline (DEADLINE).' },
  OUT_OF_MEMORY: { cause: 'out-of-memory', reason: 'It took more memory than it was given (OUT_OF_MEMORY).' },
  CANCELLED: { cause: 'canceled', reason: 'It was canceled on the cluster (CANCELLED).' },
};

const reasons: Record<string, string> = {
  Resources: 'Waits until enough of the cluster is free',
  Priority: 'Jobs of a higher priority come first',
  Dependency: 'Waits for another job',
  BeginTime: 'Waits until its time has come',
  JobHeldUser: 'Is held by its user',
  JobHeldAdmin: 'Is held by an administrator',
  ReqNodeNotAvail: 'The nodes that it needs are not available',
  Reservation: 'Waits for its reservation',
  PartitionDown: 'Its partition is down',
  PartitionInactive: 'Its partition is inactive',
  QOSMaxJobsPerUserLimit: 'Its user has as many jobs as may run at a time',
  AssocGrpCpuLimit: 'Its account has as many CPUs as it may have',
};

export const isActive = ({ state }: SeenJob) => waiting.has(state) || going.has(state);
export const isWaiting = ({ state }: SeenJob) => waiting.has(state);

export function stateOf(job: SeenJob): JobState {
  const facts = { id: job.id, ...(job.nodes.length > 0 && { nodes: job.nodes }) };
  if (job.state === 'CONFIGURING') return { state: 'waiting', reason: 'Its nodes are being started.', facts };
  if (waiting.has(job.state)) {
    const word = job.reason.split(',')[0]!.trim();
    const reason = `${reasons[word] ?? 'Waits in the queue of the cluster'} (${word === 'None' || word === '' ? job.state : word}).`;
    return { state: 'waiting', reason, ...(job.position !== undefined && { position: job.position }), facts };
  }
  if (going.has(job.state)) return { state: 'running', facts };
  return { state: 'ended', ...ends[job.state], facts };
}

/** `node[0-2,5],other` are node0, node1, node2, node5 and other. */
export function nodesOf(list: string): string[] {
  if (list === '' || list === '(null)' || /^None/i.test(list)) return [];
  return [...list.matchAll(/([^,[\]]+(?:\[[^\]]*\][^,[\]]*)*)/g)].flatMap(([, name]) => expanded(name!));
}

function expanded(name: string): string[] {
  const [, before, inside, after] = /^([^[]*)\[([^\]]*)\](.*)$/.exec(name) ?? [];
  if (inside === undefined) return [name];
  const numbers = inside.split(',').flatMap((part) => {
    const [first, last = first] = part.split('-') as [string, string?];
    const all = Array.from({ length: Number(last) - Number(first) + 1 }, (_, at) => Number(first) + at);
    return all.map((number) => String(number).padStart(first.length, '0'));
  });
  return numbers.flatMap((number) => expanded(`${before}${number}${after}`));
}
