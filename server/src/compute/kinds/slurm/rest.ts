// Slurm by its REST interface (slurmrestd), with a token of the user whose jobs they are. What is asked and told is the same as by its commands;
// a running job cannot be asked to stop by it alone, so its runner hears that from this server.
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Accounted } from './accounting.ts';
import type { Wanted } from './batch.ts';
import { gpusOf, type NodeGroup } from './nodes.ts';
import {
  askedIn,
  type Count,
  countIn,
  exitIn,
  type Status,
  stateIn,
  versions,
  type Words,
  wordsIn,
} from './rest-versions.ts';
import { isWaiting, nodesOf, type Scheduler, type SeenJob } from './scheduler.ts';

interface RestJob {
  job_id: number;
  name: string;
  job_state: Words;
  state_reason: string;
  nodes: string;
  partition: string;
  user_name?: string;
  priority: Count;
  comment?: string;
  exit_code?: Status;
}

interface RestNode {
  name: string;
  cpus: number;
  real_memory: number;
  gres: string;
  features?: Words;
  partitions?: string[];
  state: Words;
  state_flags?: string[];
}

interface RestPartition {
  name: string;
  flags?: string[];
  max_time_limit?: number | null;
  maximums?: { time?: Count };
}

interface Account {
  state: { current: Words };
  steps?: {
    tres: { requested: { max: { type: string; count: number }[] } };
    time: { total: { seconds: number; microseconds: number } };
  }[];
}

interface Answer {
  errors?: { error?: string; description?: string; error_number?: number }[];
  job_id?: number;
  jobs?: RestJob[];
  nodes?: RestNode[];
  partitions?: RestPartition[];
}

const answersWithinMs = 30_000;

export class Rest implements Scheduler {
  readonly #url: string;
  readonly #given: string | undefined;
  #found: string | undefined;
  readonly #user: string;
  readonly #token: () => Promise<string>;

  /** Without a version, the newest that both know is spoken. */
  constructor(url: string, version: string | undefined, user: string, token: () => Promise<string>) {
    this.#url = url.replace(/\/+$/, '');
    this.#given = version;
    this.#user = user;
    this.#token = token;
  }

  async ping(): Promise<void> {
    await this.#call('GET', '/ping');
  }

  async submit(wanted: Wanted): Promise<string> {
    const job = askedIn(await this.#version(), wanted);
    const { job_id } = await this.#call('POST', '/job/submit', { script: wanted.script, job });
    return String(job_id);
  }

  async find(name: string): Promise<SeenJob[]> {
    const { jobs = [] } = await this.#call('GET', '/jobs');
    const queue = jobs
      .filter((job) => wordOf(job) === 'PENDING')
      .sort((one, other) => priorityOf(other) - priorityOf(one) || one.job_id - other.job_id);
    return jobs
      .filter((job) => job.name === name)
      .sort((one, other) => one.job_id - other.job_id)
      .map((job) => {
        const at = queue.filter(({ partition }) => partition === job.partition).indexOf(job);
        const { job_id, state_reason, nodes } = job;
        const exitCode = exitIn(job.exit_code);
        const seen = {
          id: String(job_id),
          name,
          state: wordOf(job),
          reason: state_reason,
          nodes: nodesOf(nodes ?? ''),
          ...(job.comment && { comment: job.comment }),
          ...(exitCode !== undefined && { exitCode }),
        };
        return { ...seen, ...(at >= 0 && { position: at + 1 }) };
      });
  }

  async cancel(job: SeenJob, how: 'ask' | 'kill'): Promise<void> {
    if (how === 'ask' && !isWaiting(job)) return;
    await this.#call('DELETE', `/job/${job.id}`).catch((error: Error) => {
      if (!/Invalid job id|already completing or completed/i.test(error.message)) throw error;
    });
  }

  /** What a job took. */
  async accounted(id: string): Promise<Accounted> {
    const [{ jobs: accounts = [] }, { jobs = [] }] = await Promise.all([
      this.#call('GET', `/job/${id}`, undefined, 'slurmdb').catch((): Answer => ({})), // where no accounts are kept
      this.#call('GET', `/job/${id}`).catch((): Answer => ({})), // it is forgotten after a while
    ]);
    const [account] = accounts as unknown as Account[];
    const [job] = jobs;
    const steps = account?.steps ?? [];
    const peaks = steps.flatMap(({ tres }) =>
      tres.requested.max.filter(({ type }) => type === 'mem').map(({ count }) => count),
    );
    const seconds = steps.map(({ time: { total } }) => total.seconds + total.microseconds / 1e6);
    const state = job ? wordOf(job) : account && stateIn(account.state.current);
    const exitCode = exitIn(job?.exit_code);
    return {
      ...(state !== undefined && { state }),
      usage: {
        ...(exitCode !== undefined && { exitCode }),
        ...(seconds.length > 0 && {
          cpuSeconds: Math.round(seconds.reduce((sum, one) => sum + one, 0) * 1_000) / 1_000,
        }),
        ...(peaks.length > 0 && { peakMemoryBytes: Math.max(...peaks) }),
      },
    };
  }

  /** A group for each node in each of its partitions. */
  async groups(): Promise<NodeGroup[]> {
    const [{ nodes = [] }, { partitions = [] }] = await Promise.all([
      this.#call('GET', '/nodes'),
      this.#call('GET', '/partitions'),
    ]);
    return partitions.flatMap(({ name, flags = [], max_time_limit: old, maximums }) => {
      const minutes = old ?? countIn(maximums?.time);
      return nodes
        .filter((node) => node.partitions?.includes(name))
        .map((node) => ({
          partition: name,
          isDefault: flags.some((flag) => flag.toLowerCase() === 'default'),
          count: 1,
          cpus: node.cpus,
          memoryMegabytes: node.real_memory,
          gpus: gpusOf(node.gres),
          ...(typeof minutes === 'number' && minutes > 0 && { limitSeconds: minutes * 60 }),
          features: wordsIn(node.features),
          state: stateOfNode(node),
        }));
    });
  }

  async #version(): Promise<string> {
    return this.#given ?? this.#found ?? (await this.#find());
  }

  /** Only one that took the token is remembered: others may refuse before they look at the version. */
  async #find(): Promise<string> {
    for (const version of versions) {
      const { ok, status } = await this.#asked('GET', `/slurm/${version}/ping`);
      if (ok) this.#found = version;
      if (status !== 404) return version;
    }
    throw new TargetError(
      'never',
      `Slurm's REST interface ${this.#url} has none of the versions ${versions.join(', ')}.`,
    );
  }

  async #asked(method: string, path: string, body?: object): Promise<Response> {
    const headers = {
      'x-slurm-user-name': this.#user,
      'x-slurm-user-token': await this.#token(),
      ...(body && { 'content-type': 'application/json' }),
    };
    const signal = AbortSignal.timeout(answersWithinMs);
    const asked = { method, headers, signal, redirect: 'error' as const, ...(body && { body: JSON.stringify(body) }) };
    return fetch(this.#url + path, asked).catch((error: Error & { cause?: Error }) => {
      throw new TargetError(
        'later',
        `Slurm's REST interface ${this.#url} cannot be reached: ${error.cause?.message ?? error.message}.`,
      );
    });
  }

  async #call(method: string, path: string, body?: object, of: 'slurm' | 'slurmdb' = 'slurm'): Promise<Answer> {
    const version = await this.#version();
    const answer = await this.#asked(method, `/${of}/${version}${path}`, body);
    if (answer.status === 401 || answer.status === 403)
      throw new TargetError('never', `Slurm's REST interface refused the token of ${this.#user}.`);
    if (answer.status === 404) this.#found = undefined; // the cluster may have become a newer one
    if (answer.status === 404 && path === '/ping')
      throw new TargetError('never', `Slurm's REST interface ${this.#url} does not have the version ${version}.`);
    const text = await answer.text();
    const read = readOf(text);
    const [error] = read?.errors ?? [];
    if (read && !error && answer.ok) return read;
    const said = error?.error ?? error?.description ?? `status ${answer.status}`;
    if (/^Unspecified error/.test(said))
      // so it says to a token that it cannot read, too
      throw new TargetError(
        'later',
        `Slurm's REST interface refused the token of ${this.#user}, or its controller is away.`,
      );
    const isPassing = answer.status === 503 || /Unable to contact|connect failure|timed out|Authentication/i.test(said);
    throw new TargetError(isPassing ? 'later' : 'never', `Slurm: ${said.replace(/[.\s]+$/, '')}.`);
  }
}

function readOf(text: string): Answer | undefined {
  try {
    return JSON.parse(text) as Answer;
  } catch {
    return undefined;
  }
}

/** As sinfo writes it: what is switched off, or just being switched, has a sign after it. */
function stateOfNode({ state, state_flags: flags = [] }: RestNode): string {
  const words = [...wordsIn(state), ...flags].map((word) => word.toUpperCase());
  const sign = words.includes('POWERED_DOWN')
    ? '~'
    : words.includes('POWERING_DOWN')
      ? '%'
      : words.includes('POWERING_UP')
        ? '#'
        : '';
  const first = words.includes('DRAIN') ? 'drain' : words[0]!.toLowerCase();
  return `${first}${words.includes('NOT_RESPONDING') ? '*' : sign}`;
}

const wordOf = ({ job_state }: RestJob) => stateIn(job_state);
const priorityOf = ({ priority }: RestJob) => countIn(priority) ?? 0;
