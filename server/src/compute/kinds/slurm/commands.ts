// Slurm by its commands on the login node. One listing serves all who ask about jobs within a moment: the controller is not asked once for each run.
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { RemoteEnded, SshConnection } from '../../../exec/ssh/connection.ts';
import { sbatchWords, type Wanted } from './batch.ts';
import { isWaiting, nodesOf, type Scheduler, type SeenJob } from './scheduler.ts';

const answersWithinMs = 60_000;
const listedForMs = 700;
const columns = '%A|%j|%T|%r|%N|%P';

export class Commands implements Scheduler {
  readonly #connection: SshConnection;
  readonly #user: string;
  #listed: Promise<SeenJob[]> | undefined;

  constructor(connection: SshConnection, user: string) {
    this.#connection = connection;
    this.#user = user;
  }

  async submit(wanted: Wanted): Promise<string> {
    this.#listed = undefined;
    const ended = await this.#run(sbatchWords(wanted));
    if (ended.code !== 0) throw refusalOf(ended);
    return ended.stdout.trim().split(';')[0]!;
  }

  async find(name: string): Promise<SeenJob[]> {
    this.#listed ??= this.#list();
    return (await this.#listed).filter((job) => job.name === name);
  }

  async cancel(job: SeenJob, how: 'ask' | 'kill'): Promise<void> {
    this.#listed = undefined;
    if (how === 'kill') await this.#tried(['scancel', '--signal=KILL', '--full', job.id]);
    if (how === 'kill' || isWaiting(job)) await this.#tried(['scancel', job.id]);
    else await this.#tried(['scancel', '--signal=TERM', '--batch', job.id]);
  }

  /** Asked anew when a moment has passed since the answer. */
  #list(): Promise<SeenJob[]> {
    const listing = this.#query();
    const forget = () => {
      if (this.#listed === listing) this.#listed = undefined;
    };
    listing.then(() => setTimeout(forget, listedForMs).unref(), forget);
    return listing;
  }

  async #query(): Promise<SeenJob[]> {
    const own = await this.#rows(['squeue', '-h', '-a', '-t', 'all', '-u', this.#user, '-S', 'i', '-o', columns]);
    const jobs = own.map(([id, name, state, reason, nodes]) => ({
      id: id!,
      name: name!,
      state: state!,
      reason: reason!,
      nodes: nodesOf(nodes!),
    }));
    const partitions = [...new Set(own.filter(([, , state]) => state === 'PENDING').map((row) => row.at(-1)!))];
    const queues = await Promise.all(partitions.map((partition) => this.#queue(partition)));
    return jobs.map((job) => {
      const at = queues.map((queue) => queue.indexOf(job.id)).find((place) => place >= 0);
      return { ...job, ...(at !== undefined && { position: at + 1 }) };
    });
  }

  /** The numbers of those that wait, those of the highest priority first. */
  async #queue(partition: string): Promise<string[]> {
    const rows = await this.#rows(['squeue', '-h', '-a', '-t', 'PENDING', '-p', partition, '-S', '-p,i', '-o', '%A']);
    return rows.map(([id]) => id!);
  }

  async #rows(words: string[]): Promise<string[][]> {
    const ended = await this.#run(words);
    if (ended.code !== 0) throw refusalOf(ended);
    return ended.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split('|'));
  }

  /** What is over already cannot be ended; that is as good. */
  async #tried(words: string[]): Promise<void> {
    const ended = await this.#run(words);
    const isOver = /Invalid job id|already completing or completed|Job\/step already/i.test(ended.stderr);
    if (ended.code !== 0 && !isOver) throw refusalOf(ended);
  }

  #run(words: string[]): Promise<RemoteEnded> {
    return this.#connection.run({ words, timeoutMs: answersWithinMs });
  }
}

const passing =
  /Unable to contact slurm controller|Socket timed out|connect failure|Connection refused|temporarily|try again|Slurm backup controller|Transport endpoint|Zero Bytes/i;

/** What Slurm says to a refusal, without what stands before it. */
function refusalOf({ stderr, stdout, code }: RemoteEnded): TargetError {
  const lines = (stderr || stdout)
    .trim()
    .split('\n')
    .map((line) => line.replace(/^\w+: (error: )?/, ''));
  const said = lines.at(-1) || `its command ended with exit code ${code}`;
  if (code === 127) return new TargetError('never', `Slurm's commands are not on the login node: ${said}.`);
  return new TargetError(passing.test(lines.join(' ')) ? 'later' : 'never', `Slurm: ${said.replace(/[.\s]+$/, '')}.`);
}
