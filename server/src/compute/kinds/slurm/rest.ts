// Slurm by its REST interface (slurmrestd), with a token of the user whose jobs they are. What is asked and told is the same as by its commands;
// a running job cannot be asked to stop by it alone, so its runner hears that from this server.
import { TargetError } from '@stellwerk/contract/errors.ts';
import { outputIn, type Wanted } from './batch.ts';
import { isWaiting, nodesOf, type Scheduler, type SeenJob } from './scheduler.ts';

interface RestJob {
  job_id: number;
  name: string;
  job_state: string | string[];
  state_reason: string;
  nodes: string;
  partition: string;
  user_name?: string;
  priority: number | { number: number };
}

interface Answer {
  errors?: { error?: string; description?: string; error_number?: number }[];
  job_id?: number;
  jobs?: RestJob[];
}

const answersWithinMs = 30_000;

export class Rest implements Scheduler {
  readonly #base: string;
  readonly #user: string;
  readonly #token: () => Promise<string>;

  constructor(url: string, version: string, user: string, token: () => Promise<string>) {
    this.#base = `${url.replace(/\/+$/, '')}/slurm/${version}`;
    this.#user = user;
    this.#token = token;
  }

  async ping(): Promise<void> {
    await this.#call('GET', '/ping');
  }

  async submit(wanted: Wanted): Promise<string> {
    const {
      name,
      folder,
      script,
      nodes,
      tasksPerNode,
      cpusPerTask,
      memoryMegabytes,
      gres,
      minutes,
      settings,
      warnSeconds,
    } = wanted;
    const given = Object.entries({
      name,
      nodes: [nodes, nodes],
      tasks: nodes * tasksPerNode,
      tasks_per_node: tasksPerNode,
      cpus_per_task: cpusPerTask,
      memory_per_node: memoryMegabytes,
      gres,
      time_limit: minutes,
      signal: warnSeconds === undefined ? undefined : `B:USR1@${warnSeconds}`,
      partition: settings.partition,
      account: settings.account,
      qos: settings.qos,
      constraints: settings.constraint,
      reservation: settings.reservation,
      requeue: false,
      current_working_directory: '/',
      standard_output: outputIn(folder),
      environment: { PATH: '/usr/local/bin:/usr/bin:/bin' },
    }).filter(([, value]) => value !== undefined);
    const { job_id } = await this.#call('POST', '/job/submit', { script, job: Object.fromEntries(given) });
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
        const seen = {
          id: String(job_id),
          name,
          state: wordOf(job),
          reason: state_reason,
          nodes: nodesOf(nodes ?? ''),
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

  async #call(method: string, path: string, body?: object): Promise<Answer> {
    const headers = {
      'x-slurm-user-name': this.#user,
      'x-slurm-user-token': await this.#token(),
      ...(body && { 'content-type': 'application/json' }),
    };
    const signal = AbortSignal.timeout(answersWithinMs);
    const asked = { method, headers, signal, redirect: 'error' as const, ...(body && { body: JSON.stringify(body) }) };
    const answer = await fetch(this.#base + path, asked).catch((error: Error & { cause?: Error }) => {
      throw new TargetError(
        'later',
        `Slurm's REST interface ${this.#base} cannot be reached: ${error.cause?.message ?? error.message}.`,
      );
    });
    if (answer.status === 401 || answer.status === 403)
      throw new TargetError('never', `Slurm's REST interface refused the token of ${this.#user}.`);
    if (answer.status === 404 && path === '/ping')
      throw new TargetError('never', `Slurm's REST interface does not have the version of ${this.#base}.`);
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

const wordOf = ({ job_state }: RestJob) => (Array.isArray(job_state) ? job_state[0]! : job_state);
const priorityOf = ({ priority }: RestJob) => (typeof priority === 'number' ? priority : priority.number);
