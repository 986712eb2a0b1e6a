// Runs every test: the checks, the unit tests, Python's, and the stories, beside them what needs the real engines. `npm test -- unit` (check, python, engines,
// stories, kinds, engine-stories) runs one part, `npm test -- stories kill` only stories whose file name has that word, `npm test -- ssh` all that needs the
// engine in `test/engines/ssh`. Ends with `N passed, N failed`.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { wheelPath } from '@stellwerk/server/assets.ts';
import { prepareMachine } from './machine.ts';

interface Count {
  passed: number;
  failed: number;
  skipped: string[];
  /** What failed at first: machines with real engines on them are no laboratory, but nobody is to overlook it. */
  retried: string[];
  /** What failed and why, so that the last lines of a long record tell it. */
  faults: string[];
}

const nothing: Count = { passed: 0, failed: 0, skipped: [], retried: [], faults: [] };
const sum = (one: Count, other: Count): Count => ({
  passed: one.passed + other.passed,
  failed: one.failed + other.failed,
  skipped: [...one.skipped, ...other.skipped],
  retried: [...one.retried, ...other.retried],
  faults: [...one.faults, ...other.faults],
});

interface Result {
  status: string;
  fullName: string;
  failureMessages: string[];
}

/** Both ends of a text: what was asserted stands at its beginning, a Python error at its end. */
const shortened = (text: string) => (text.length <= 2_000 ? text : `${text.slice(0, 1_000)} […] ${text.slice(-1_000)}`);

/** The longest story takes half of this. */
const silenceMs = 20 * 60_000;
const root = dirname(dirname(fileURLToPath(import.meta.url)));

function run(
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; output: string }> {
  const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let output = '';
  const silence = setTimeout(() => {
    process.stdout.write(`\n${args.join(' ')} has said nothing for ${silenceMs / 60_000} minutes, and is ended.\n`);
    child.kill('SIGKILL');
  }, silenceMs);
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-1_000_000);
      process.stdout.write(chunk);
      silence.refresh();
    });
  }
  const { promise, resolve } = Promise.withResolvers<{ code: number; output: string }>();
  const over = () => {
    clearTimeout(silence);
    resolve({ code: child.exitCode ?? 1, output });
  };
  child.on('close', over);
  child.on('exit', () => setTimeout(over, 5_000).unref()); // somebody that it left behind may hold its output open
  return promise;
}

async function check(): Promise<Count> {
  const { code, output } = await run(process.execPath, ['tools/check.ts']);
  if (code === 0) return { ...nothing, passed: 1 };
  return { ...nothing, failed: 1, faults: [`check: ${shortened(output)}`] };
}

interface Chosen {
  /** Only files whose path has one of them. */
  words: string[];
  /** Patterns of files that are left out. */
  without?: string[];
}

/** A word may be of files of another project: then there is nothing to run. */
async function vitest(project: string, { words, without = [] }: Chosen): Promise<Count> {
  const folder = mkdtempSync(join(tmpdir(), 'stellwerk-test-'));
  const report = join(folder, 'report.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile=${report}`, '--passWithNoTests'];
  const chosen = [...without.map((one) => `--exclude=${one}`), ...words];
  const command = ['node_modules/vitest/vitest.mjs', 'run', '--project', project, ...reporters, ...chosen];
  try {
    const { code, output } = await run(process.execPath, command);
    const fault = () => [`${project}: ${shortened(stripVTControlCharacters(output.slice(-4_000)))}`];
    if (!existsSync(report)) return code === 0 ? nothing : { ...nothing, failed: 1, faults: fault() };
    const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(report, 'utf8'));
    const results: Result[] = testResults.flatMap((file: { assertionResults: Result[] }) => file.assertionResults);
    const namesOf = (which: (result: Result) => boolean) => results.filter(which).map(({ fullName }) => fullName);
    const skipped = namesOf(({ status }) => status === 'skipped' || status === 'pending');
    const retried = namesOf(({ status, failureMessages }) => status === 'passed' && failureMessages.length > 0);
    const faults = results
      .filter(({ status }) => status === 'failed')
      .map(({ fullName, failureMessages }) => `${fullName}\n${failureMessages.map(shortened).join('\n')}`);
    if (numFailedTests > 0 || code === 0)
      return { passed: numPassedTests, failed: numFailedTests, skipped, retried, faults };
    // A file that did not load, or a fault outside any test, is a failure too.
    return { passed: numPassedTests, failed: 1, skipped, retried, faults: fault() };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function python(): Promise<Count> {
  const { code, output } = await run(
    'python3',
    ['-m', 'unittest', 'discover', '--buffer', '-s', 'python/tests', '-t', 'python/tests'],
    { PYTHONPATH: 'python/src' },
  );
  const ran = Number(/^Ran (\d+) tests?/m.exec(output)?.[1] ?? 0);
  const result = /^(?:OK|FAILED) \((.*)\)$/m.exec(output)?.[1] ?? '';
  const of = (word: string) => Number(new RegExp(`${word}=(\\d+)`).exec(result)?.[1] ?? 0);
  const failed = of('failures') + of('errors') || (code === 0 && ran > 0 ? 0 : 1);
  const skipped = of('skipped');
  const told = output
    .split(/^={70}$/m)
    .slice(1)
    .map((one) => shortened(one.replace(/^Ran [\s\S]*/m, '').trim()));
  return {
    ...nothing,
    faults: failed > 0 && told.length === 0 ? [`python: ${shortened(output.slice(-4_000))}`] : told,
    passed: Math.max(0, ran - failed - skipped),
    failed,
    skipped: skipped > 0 ? [`${skipped} Python tests`] : [],
  };
}

/** What takes longest to make on a new machine is made beside the rest. Where it cannot be made, the tests that need it say why. */
function begunAhead(): { done: Promise<unknown>; end(): void } {
  const program = [process.execPath, 'test/engines/kubernetes/build.ts'];
  const child = spawn('nice', ['-n', '15', ...program], { cwd: root, stdio: 'ignore' });
  return { done: new Promise((resolve) => child.on('close', resolve)), end: () => child.kill() };
}

type Part = (words: string[]) => Promise<Count>;
const parts = {
  check,
  unit: (words) => vitest('unit', { words }),
  python,
  engines: (words) => vitest('engines', { words }),
  stories: (words) => vitest('stories', { words }),
  kinds: (words) => vitest('kinds', { words, without: ['**/kinds/kubernetes/**'] }),
  'engine-stories': (words) => vitest('engine-stories', { words, without: ['**/test/kubernetes*.test.ts'] }),
} satisfies Record<string, Part>;
type PartName = keyof typeof parts;

/** What runs on Kubernetes, which takes longest to make on a new machine, comes last and alone. */
const onKubernetes: Partial<Record<PartName, Part>> = {
  kinds: async (words) => {
    await ahead?.done;
    return vitest('kinds', { words, without: ['**/kinds/!(kubernetes)/**'] });
  },
  'engine-stories': (words) => vitest('engine-stories', { words, without: ['**/test/!(kubernetes*).test.ts'] }),
};

const asked = process.argv.slice(2);
const named = asked.filter((word): word is PartName => word in parts);
const words = asked.filter((word) => !(word in parts));
const isEngine = words.some((word) => existsSync(join(root, 'test', 'engines', word)));
const ofWords: PartName[] = isEngine ? ['engines', 'kinds', 'engine-stories'] : ['stories', 'engine-stories'];
const chosen = named.length > 0 ? named : words.length > 0 ? ofWords : (Object.keys(parts) as PartName[]);

async function told(name: string, part: Part): Promise<Count> {
  const began = performance.now();
  process.stdout.write(`\n── ${name} ──\n`);
  const count = await part(words);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  process.stdout.write(`── ${name}: ${count.passed} passed, ${count.failed} failed, ${seconds} s ──\n`);
  return count;
}

async function oneByOne(names: PartName[], from: Partial<Record<PartName, Part>>, where = ''): Promise<Count> {
  let total = nothing;
  for (const name of names) if (from[name]) total = sum(total, await told(`${name}${where}`, from[name]));
  return total;
}

prepareMachine();
await wheelPath(); // which both lanes would build at once
const ahead =
  chosen.includes('kinds') && (words.length === 0 || words.includes('kubernetes')) ? begunAhead() : undefined;
// What needs real engines mostly waits for them, the rest keeps processors busy: beside each other they take as long as the longer one.
const isOnEngines = (name: PartName) => name in onKubernetes;
const lanes = [chosen.filter((name) => !isOnEngines(name)), chosen.filter(isOnEngines)];
const counts = await Promise.all(lanes.map((names) => oneByOne(names, parts)));
// A whole cluster on two processors is not itself when others keep them busy.
const total = sum(counts.reduce(sum), await oneByOne(chosen, onKubernetes, ' on Kubernetes'));
ahead?.end();
for (const name of total.skipped) process.stdout.write(`skipped: ${name}\n`);
for (const name of total.retried) process.stdout.write(`passed at the second try only: ${name}\n`);
for (const fault of total.faults) process.stdout.write(`\nfailed: ${fault}\n`);
process.stdout.write(`\n${total.passed} passed, ${total.failed} failed\n`);
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1);
