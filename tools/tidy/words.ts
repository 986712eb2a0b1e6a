// Words and shapes that do not belong where they stand: vendors' words, environment variables, processes, names, unfinished work.
import { basename } from 'node:path';
import { type Finding, isServer, isTest, isTypeScript, type Source } from './sources.ts';

const vendorWords =
  /\b(docker|dockerode|podman|kubectl|kubernetes|sbatch|squeue|scancel|slurm|spark-submit|livy|azure|aws|boto3|minio)\b/i;
/** Formats that these rooms exist to read and write carry their vendor's name; the list of kinds names each. */
const vendorRooms = /^server\/src\/(oci|registry)\/|[/-]kinds\.ts$/;
/** The name of a kind as the contract has it, alone in quotes. */
const kindNames = /'(docker|slurm|kubernetes)'/g;
const environmentFiles = new Set(['server/src/config.ts', 'cli/src/surroundings.ts']);
/** As part of a name. */
const emptyWords = new Set(['util', 'utils', 'helper', 'helpers', 'misc', 'manager', 'impl', 'dto']);
/** As the whole name: a package index and a base image are things that users know. */
const emptyNames = new Set([...emptyWords, 'common', 'shared', 'core', 'base', 'index']);
const allowedNames = /^python\/(src\/stellwerk\/core\/|scorer\/shims\/\w+\/core\/)|^docs\//;
const longestFile = 400;

const rules: { rule: string; applies: (source: Source) => boolean; flaw: (source: Source) => string | undefined }[] = [
  {
    rule: 'vendor-words',
    applies: (source) =>
      isServer(source) && isTypeScript(source) && !isTest(source) && !source.path.includes('/kinds/'),
    flaw: ({ code, path }) =>
      vendorRooms.test(path) ? undefined : found(code.replace(kindNames, ''), vendorWords, 'has the vendor word'),
  },
  {
    rule: 'environment',
    applies: (source) => inProduct(source) && !environmentFiles.has(source.path),
    flaw: ({ code }) => found(code, /process\.env\b/, 'reads the environment:'),
  },
  {
    rule: 'processes',
    applies: (source) => inProduct(source) && !source.path.startsWith('server/src/exec/'),
    flaw: ({ code }) => found(code, /node:child_process|node:cluster/, 'starts programs itself:'),
  },
  {
    rule: 'names',
    applies: ({ path }) => !allowedNames.test(path),
    flaw: ({ path }) => {
      const name = basename(path).replace(/\..*$/, '');
      const empty =
        name.split(/[-_]/).find((part) => emptyWords.has(part)) ??
        [name, ...path.split('/')].find((part) => emptyNames.has(part));
      return empty ? `is named ${empty}: say what it is` : undefined;
    },
  },
  {
    rule: 'barrels',
    applies: isTypeScript,
    flaw: ({ code }) =>
      /^(\s*export\s+(\*|\{[^}]*\}|type\s*\{[^}]*\})\s*from\s*'[^']+';?\s*)+$/.test(code)
        ? 'only passes on what others export'
        : undefined,
  },
  {
    rule: 'shapes',
    applies: (source) => isTypeScript(source) && !source.path.startsWith('tools/tidy/'),
    flaw: ({ code }) =>
      found(code, /\bclass \w+(?:<[^>]*>)? extends (?!Error\b)\w+/, 'inherits:') ??
      found(code, /(?:^|\n)\s*(?:export )?(?:declare )?(?:const )?enum \w+/, 'has an enum:') ??
      found(code, /(?:^|\n)\s*@\w+(?:\(.*\))?\s*(?=\n)/, 'has a decorator:'),
  },
  {
    rule: 'unfinished',
    applies: ({ path }) => /\.(ts|mjs|py|md)$/.test(path) && !path.startsWith('tools/tidy/'),
    flaw: ({ text }) => found(text, /\b(TODO|FIXME|XXX|HACK)\b/, 'says'),
  },
  {
    rule: 'skipped-tests',
    // A test that needs something of the machine may say so (`runIf`, `skipUnless`); `npm test` names what it left out.
    applies: ({ path }) => /\.(test|suite)\.ts$|\/tests\/|^test\//.test(path) && !path.startsWith('tools/tidy/'),
    flaw: ({ code }) =>
      found(
        code,
        /\b(?:it|test|describe)\.(?:skip|todo|only)\b|@unittest\.skip\(|self\.skipTest|\bvi\.mock\b|unittest\.mock/,
        'has',
      ),
  },
  {
    rule: 'this-machine',
    applies: ({ path }) => !path.startsWith('tools/tidy/'),
    flaw: ({ text }) => found(text, /\/(?:home|Users)\/[a-z][\w-]*\//, 'names a path of a machine:'),
  },
  {
    rule: 'length',
    applies: (source) => /\.(ts|py)$/.test(source.path) && !isTest(source) && !isGenerated(source),
    flaw: ({ text }) => {
      const lines = text.split('\n').length;
      return lines > longestFile ? `has more than ${longestFile} lines` : undefined;
    },
  },
  {
    rule: 'first-lines',
    applies: (source) => isTypeScript(source) && inProduct(source) && !isTest(source),
    flaw: ({ text }) => (/^(\/\/|\/\*|#!)/.test(text) ? undefined : 'does not begin with what it is'),
  },
];

const inProduct = (source: Source) =>
  isTypeScript(source) && !isTest(source) && /^(contract|server|client|cli)\/src\//.test(source.path);

const isGenerated = ({ text }: Source) => /generated/i.test(text.slice(0, 400));

function found(text: string, pattern: RegExp, words: string): string | undefined {
  const match = pattern.exec(text);
  return match ? `${words} ${match[0].trim()}` : undefined;
}

export function checkWords(sources: Source[]): Finding[] {
  return sources.flatMap((source) =>
    rules.flatMap(({ rule, applies, flaw }) => {
      const what = applies(source) ? flaw(source) : undefined;
      return what === undefined ? [] : [{ rule, path: source.path, what }];
    }),
  );
}
