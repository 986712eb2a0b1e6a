// What a user wrote, read: requirements in pip's words, the Python, where packages come from, and what was changed on the way.
// Nothing here touches the network or the disk.
import { condaAddress, splitCondaLock } from '@stellwerk/contract/conda-lock.ts';
import type { BuiltSpecification, IndexSettings } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { type CondaFile, condaAsPip, listed, onlyConda, parseCondaFile } from './conda-file.ts';
import { mergeSettings } from './index-settings.ts';
import { parseLock } from './lock-file.ts';
import { parseRequirements, type Requirement, refused } from './requirements-file.ts';

export interface Wanted {
  python?: string;
  /** Everything to be installed; pinned and hashed already where a lock was given. */
  requirements: Requirement[];
  isLock: boolean;
  options: string[];
  /** Names on PyPI that stand for conda's packages, to tell which of them are missing. */
  condaNames: { pip: string; conda: string; line: number }[];
  conda?: { channels: string[]; packages: string[] };
  needsStellwerk: boolean;
  indexes: IndexSettings;
  notices: string[];
}

const file = { conda: 'the conda file', requirements: 'the requirements', lock: 'the lock' } as const;

export function readSpecification(spec: BuiltSpecification, targetHasConda = false): Wanted {
  const wanted =
    spec.condaFile !== undefined
      ? readConda(spec.condaFile, targetHasConda)
      : spec.lock !== undefined
        ? readLock(spec.lock, targetHasConda)
        : readRequirements(spec.requirements ?? '');
  if (spec.python && wanted.python && spec.python !== wanted.python)
    wanted.notices.push(`Python ${spec.python} of the specification is used, not ${wanted.python} of ${file.conda}.`);
  const python = spec.python ?? wanted.python;
  return withOurOwn({ ...wanted, ...(python && { python }) });
}

function readRequirements(text: string): Wanted {
  return {
    ...parseRequirements(text, { file: file.requirements }),
    isLock: false,
    condaNames: [],
    needsStellwerk: false,
  };
}

function readLock(text: string, targetHasConda: boolean): Wanted {
  const { packages, rest } = splitCondaLock(text);
  const wanted = { ...parseLock(rest, file.lock), isLock: true, options: [], condaNames: [], needsStellwerk: false };
  if (packages.length === 0) return wanted;
  const named = packages.map((address) => condaAddress.exec(address)!);
  if (!targetHasConda) throw onlyConda([`the ${packages.length} packages of conda`], file.lock);
  const minor = named.find(([, , name]) => name === 'python')?.[3]?.match(/^3\.\d+/)?.[0];
  if (minor === undefined)
    throw refused({ file: file.lock, line: 1 }, 'conda brings the Python, and none is among its packages.');
  return { ...wanted, python: minor, conda: { channels: [], packages } };
}

function readConda(text: string, targetHasConda: boolean): Wanted {
  const conda = parseCondaFile(text, file.conda);
  const common = {
    isLock: false,
    options: conda.pip.options,
    indexes: mergeSettings({}, conda.pip.indexes),
    needsStellwerk: conda.packages.some(({ name }) => isOurs(name)),
    ...(conda.python && { python: conda.python.minor }),
  };
  const notices = [...conda.notices, ...conda.pip.notices];
  if (targetHasConda)
    return {
      ...common,
      requirements: conda.pip.requirements,
      condaNames: [],
      conda: forConda(conda),
      notices: [
        ...notices,
        'conda on the target installs the packages of the conda file; only those under `pip:` are locked with hashes.',
      ],
    };
  const asPip = condaAsPip(conda.packages, file.conda);
  const lines = asPip.lines.map(({ text: line, from }) => ({
    requirement: parseRequirements(line, { file: file.conda, firstLine: from.line }).requirements[0]!,
    from,
  }));
  const channels = conda.channels.filter((channel) => channel !== 'defaults');
  if (channels.length > 0 && asPip.lines.length > 0)
    asPip.notices.push(`The channels ${listed(channels)} are not used; packages come from the package index.`);
  return {
    ...common,
    requirements: [...lines.map(({ requirement }) => requirement), ...conda.pip.requirements],
    condaNames: lines.map(({ requirement, from }) => ({ pip: requirement.name, conda: from.name, line: from.line })),
    notices: [...notices, ...asPip.notices],
  };
}

function forConda(conda: CondaFile): { channels: string[]; packages: string[] } {
  const python = conda.python ? [conda.python.text] : [];
  const ours = conda.packages.filter(({ name }) => !isOurs(name));
  return {
    channels: conda.channels.length > 0 ? conda.channels : ['conda-forge'],
    packages: [...python, ...ours.map(({ text }) => text)],
  };
}

function isOurs(name: string): boolean {
  return name === 'stellwerk' || name.startsWith('azureml-');
}

/** `azureml-*` is what our own package stands in for; it is not on an index but comes from this server. */
function withOurOwn(wanted: Wanted): Wanted {
  const ours = wanted.requirements.filter(({ name }) => isOurs(name));
  if (ours.length === 0) return wanted;
  const replaced = [...new Set(ours.map(({ name }) => name))].filter((name) => name !== 'stellwerk');
  const notices =
    replaced.length > 0
      ? [
          ...wanted.notices,
          `${listed(replaced)} ${replaced.length === 1 ? 'is' : 'are'} replaced by Stellwerk's own package \`stellwerk\`, which has the same names.`,
        ]
      : wanted.notices;
  return {
    ...wanted,
    requirements: wanted.requirements.filter(({ name }) => !isOurs(name)),
    condaNames: wanted.condaNames.filter(({ pip }) => !isOurs(pip)),
    needsStellwerk: true,
    notices,
  };
}

/** The Python to use: the one asked for, or with the fallback the nearest newer one of the target. */
export function choosePython(
  asked: string | undefined,
  fallback: boolean,
  pythons: readonly string[],
): { minor: string; notice?: string } {
  const first = pythons[0];
  const there = [...new Set(pythons)].sort((a, b) => minorNumber(a) - minorNumber(b));
  if (first === undefined)
    throw new ServiceError(
      'failed-precondition',
      'environment.python-missing',
      'There is no Python 3.8 or newer on the machine that installs. Install Python there (Debian: python3 and python3-venv).',
    );
  if (asked === undefined) return { minor: first };
  if (there.includes(asked)) return { minor: asked };
  const newer = there.find((minor) => minorNumber(minor) > minorNumber(asked));
  const found = `Found ${there.length === 1 ? 'is' : 'are'} ${listed(there)}`;
  if (!fallback)
    throw new ServiceError(
      'failed-precondition',
      'environment.python-missing',
      `Python ${asked} is not on the machine that installs. ${found}. Install Python ${asked} there, name one of those found, or set \`pythonFallback\` to take the nearest newer one.`,
    );
  if (!newer)
    throw new ServiceError(
      'failed-precondition',
      'environment.python-missing',
      `Python ${asked} is not on the machine that installs, nor is a newer one that could stand in. ${found}.`,
    );
  return {
    minor: newer,
    notice: `Python ${asked} is not on the machine that installs; Python ${newer}, the nearest newer one, is used in its place.`,
  };
}

export function minorNumber(minor: string): number {
  return Number(minor.split('.')[1]);
}
