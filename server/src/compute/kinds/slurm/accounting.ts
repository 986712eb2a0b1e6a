// What a job took, as Slurm accounts for it. Where the cluster keeps no accounts nothing is told.
import type { Usage } from '@stellwerk/contract/job.ts';
import type { SshConnection } from '../../../exec/ssh/connection.ts';

export interface Accounted {
  state?: string;
  usage?: Usage;
}

const units: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40, P: 2 ** 50 };

export async function accounted(connection: SshConnection, id: string): Promise<Accounted> {
  const words = ['sacct', '-n', '-P', '-D', '-j', id, '-o', 'JobIDRaw,State,ExitCode,MaxRSS,TotalCPU'];
  const { code, stdout } = await connection.run({ words, timeoutMs: 30_000 });
  return code === 0 ? readAccounts(stdout, id) : {};
}

/** A line for the job, and one for each of its steps. */
export function readAccounts(text: string, id: string): Accounted {
  const rows = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('|')); // the job's own first
  const own = rows.find(([of]) => of === id);
  if (!own) return {};
  const [, state, exit, , cpu] = own;
  const [code, signal] = (exit ?? '').split(':').map(Number);
  const cpuSeconds = secondsOf(cpu ?? '');
  const peaks = rows.map(([, , , rss]) => bytesOf(rss ?? '')).filter((bytes) => bytes !== undefined);
  return {
    ...(state && { state: state.split(' ')[0]! }),
    usage: {
      ...(code !== undefined && !Number.isNaN(code) && { exitCode: signal ? 128 + signal : code }),
      ...(cpuSeconds !== undefined && { cpuSeconds }),
      ...(peaks.length > 0 && { peakMemoryBytes: Math.max(...peaks) }),
    },
  };
}

function bytesOf(text: string): number | undefined {
  const [, number, unit] = /^([\d.]+)([KMGTP]?)n?$/.exec(text) ?? [];
  return number === undefined ? undefined : Math.round(Number(number) * units[unit!]!);
}

/** `1-02:03:04`, `02:03:04`, `03:04.500` */
function secondsOf(text: string): number | undefined {
  const [, days = '0', rest] = /^(?:(\d+)-)?([\d:.]+)$/.exec(text) ?? [];
  if (rest === undefined) return undefined;
  const seconds = rest.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
  return Math.round((Number(days) * 86_400 + seconds) * 1_000) / 1_000;
}
