// From requirements to a lock: every package that is needed, pinned, with the hashes of its files, for one Python and platform.
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { EnvironmentPlatform, IndexSettings } from '@stellwerk/contract/environment.ts';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import { boxRefused } from './build-box.ts';
import { onlyConda } from './conda-file.ts';
import { canonicalLock } from './lock-file.ts';
import type { Watch } from './once.ts';
import { parseRequirements, type Requirement } from './requirements-file.ts';
import type { Wanted } from './specification.ts';
import type { Uv } from './uv.ts';

export interface Question {
  wanted: Wanted;
  minor: string;
  platform: EnvironmentPlatform;
  settings: IndexSettings;
}

/** In uv's words. Linux means glibc 2.28 or newer, so that a lock holds on the machines that train and in images alike. */
export const tripleOf: Readonly<Record<EnvironmentPlatform, string>> = {
  'linux-x64': 'x86_64-unknown-linux-gnu',
  'linux-arm64': 'aarch64-unknown-linux-gnu',
  'macos-x64': 'x86_64-apple-darwin',
  'macos-arm64': 'aarch64-apple-darwin',
  'windows-x64': 'x86_64-pc-windows-msvc',
};

export async function resolve(question: Question, uv: Uv, watch: Watch): Promise<string> {
  const { wanted } = question;
  if (wanted.requirements.length === 0) return '';
  const asked = [
    ...wanted.options,
    ...wanted.requirements.map(({ text, hashes }) => [text, ...hashes.map((hash) => `--hash=${hash}`)].join(' ')),
  ];
  const { lock, flaw } = await compile(asked, [], question, uv, watch);
  if (lock === undefined) throw await failure(flaw, question, uv, watch);
  const locked = parseRequirements(lock, { file: 'the resolved lock' }).requirements;
  return canonicalLock(locked.map((requirement) => asHashed(requirement, wanted.requirements)));
}

async function compile(
  lines: readonly string[],
  flags: readonly string[],
  question: Question,
  uv: Uv,
  watch: Watch,
): Promise<{ lock?: string; flaw: string }> {
  const folder = await uv.workFolder();
  try {
    await writeFile(join(folder, 'requirements.in'), lines.map((line) => `${line}\n`).join(''));
    await writeFile(join(folder, 'uv.toml'), ''); // a project above this folder has no say
    const args = [
      'pip',
      'compile',
      'requirements.in',
      '--output-file',
      'lock.txt',
      '--generate-hashes',
      '--no-annotate',
      '--no-header',
      ...flags,
    ];
    args.push(
      '--python-version',
      question.minor,
      '--python-platform',
      tripleOf[question.platform],
      ...(await interpreter(question, folder, uv, watch)),
    );
    const ended = await uv.run({ ...watch, args, cwd: folder, settings: question.settings });
    return ended.code === 0
      ? { lock: await readFile(join(folder, 'lock.txt'), 'utf8'), flaw: '' }
      : { flaw: ended.stderr };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** That of the same minor if it is here: what a source distribution says of itself may depend on it. */
async function interpreter({ minor }: Question, folder: string, uv: Uv, { signal }: Watch): Promise<string[]> {
  const pythons = await uv.pythons();
  const python = pythons.find((one) => one.minor === minor) ?? pythons[0];
  if (!python) return ['--no-build'];
  const builder = await uv.builder(python.path, folder, signal);
  return builder === undefined ? ['--python', python.path, '--no-build'] : ['--python', builder];
}

/** Of the hashes that uv found, those that the user allows; a file that changed on the index must not slip in. */
function asHashed(locked: Requirement, asked: readonly Requirement[]): Requirement {
  const given = asked
    .filter(({ name, hashes }) => name === locked.name && hashes.length > 0)
    .flatMap(({ hashes }) => hashes);
  if (given.length === 0) return locked;
  const hashes = locked.hashes.filter((hash) => given.includes(hash));
  if (hashes.length > 0) return { ...locked, hashes };
  throw new ServiceError(
    'failed-precondition',
    'environment.unresolvable',
    `The files that the package index has for ${locked.text} have none of the hashes given for it.`,
  );
}

async function failure(flaw: string, question: Question, uv: Uv, watch: Watch): Promise<Error> {
  const absent = await absentOfConda(flaw, question, uv, watch);
  if (absent.length > 0) return onlyConda(absent, 'the conda file');
  const told = paragraph(flaw);
  if (/invalid peer certificate|certificate verify failed/i.test(flaw))
    return new ServiceError(
      'failed-precondition',
      'environment.unresolvable',
      `The certificate of a package index is not trusted: set the one to trust with \`stellwerk package-index set --ca-bundle @<file>\`. ${told}`,
    );
  if (/Failed to fetch|error sending request|dns error|timed out/i.test(flaw) && !/\b40[134]\b/.test(flaw))
    return new TargetError('later', `The package index cannot be reached. ${told}`);
  const build = /building from source is disabled/i.test(flaw) ? ` ${boxRefused}` : '';
  return new ServiceError(
    'failed-precondition',
    'environment.unresolvable',
    `The environment cannot be resolved for Python ${question.minor} on ${question.platform}. ${told}${build}`,
  );
}

/** uv's reasons as one paragraph. */
function paragraph(flaw: string): string {
  const from = flaw.search(/^error:/m);
  const lines = flaw
    .slice(Math.max(0, from))
    .split('\n')
    .map((line) => line.replace(/^\s*(error|cause):\s*/, '').trim());
  return lines
    .filter((line) => line !== '')
    .join(' ')
    .slice(0, 2_500);
}

/** Which of conda's packages the index does not know by that name; all of them, where uv names the first only. */
async function absentOfConda(flaw: string, question: Question, uv: Uv, watch: Watch): Promise<string[]> {
  if (!/not found in the package registry/.test(flaw)) return [];
  const quiet = watch.signal ? { signal: watch.signal } : {};
  const absent = await Promise.all(
    question.wanted.condaNames.map(async ({ pip, conda, line }) => {
      const { flaw: why } = await compile([pip], ['--no-deps'], question, uv, quiet);
      return /not found in the package registry/.test(why) ? `${conda} (line ${line})` : undefined;
    }),
  );
  return absent.filter((name) => name !== undefined);
}
