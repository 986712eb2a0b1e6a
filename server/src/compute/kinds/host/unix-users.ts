// The Unix ids that runs of other people are executed under. Processes of one id can read each other's files and memory, so that
// one user is not enough to keep two runs apart: each run gets an id of its own out of the user's subordinate ids, which
// the system sets aside for that user (`/etc/subuid`, `/etc/subgid`; useradd makes them).
import { readFile } from 'node:fs/promises';
import { run } from '../../../exec/programs.ts';

export interface UnixIds {
  name: string;
  /** The subordinate ids, which serve as user and as group ids. */
  first: number;
  /** For runs, each of which gets one of its own. */
  count: number;
  /** The one after them: makes the environments that those runs share. */
  builder: number;
}

type Found = { ids: UnixIds } | { ids?: undefined; reason: string; hint: string };

/** Where the system writes down whom which ids belong to. */
export interface IdFiles {
  users: string;
  groups: string;
}

const systemFiles: IdFiles = { users: '/etc/subuid', groups: '/etc/subgid' };

export async function findUser(name: string, files = systemFiles): Promise<Found> {
  if (process.getuid?.() !== 0)
    return {
      reason: 'Only a server that runs as root can start runs under other ids.',
      hint: 'Start the server as root.',
    };
  const ended = await run({ command: 'id', args: ['-u', '--', name] });
  if (ended.code !== 0)
    return {
      reason: `There is no Unix user ${name}.`,
      hint: `Make one: useradd --system --add-subids-for-system ${name}`,
    };
  const uid = Number(ended.stdout.trim());
  if (uid === 0) return { reason: `${name} is root.`, hint: 'Choose a user without rights.' };
  const [users, groups] = await Promise.all([rangesOf(files.users, name, uid), rangesOf(files.groups, name, uid)]);
  const shared = users.flatMap((one) => groups.map((other) => common(one, other))).find(({ count }) => count > 1);
  if (!shared)
    return {
      reason: `${name} has no subordinate ids that are user and group ids alike, so that its runs could not be kept from reading each other.`,
      hint: `usermod --add-subuids 500000-565535 --add-subgids 500000-565535 ${name}`,
    };
  const { first, count } = shared;
  return { ids: { name, first, count: count - 1, builder: first + count - 1 } };
}

interface Range {
  first: number;
  count: number;
}

async function rangesOf(file: string, name: string, uid: number): Promise<Range[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text
    .split('\n')
    .map((line) => line.trim().split(':'))
    .filter(([owner]) => owner === name || owner === String(uid))
    .map(([, first, count]) => ({ first: Number(first), count: Number(count) }))
    .filter(({ first, count }) => Number.isSafeInteger(first) && first > 0 && Number.isSafeInteger(count));
}

function common(one: Range, other: Range): Range {
  const first = Math.max(one.first, other.first);
  return { first, count: Math.min(one.first + one.count, other.first + other.count) - first };
}
