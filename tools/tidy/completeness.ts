// Nothing declared is left out elsewhere: every reason is documented and used, every verb is in the Python client, every kind has
// settings, a test of the suite and a page.
import { hints } from '@stellwerk/contract/errors.ts';
import { eachVerb } from '@stellwerk/contract/verbs.ts';
import { comforts } from '../../cli/src/comforts.ts';
import { kebab, nounOf } from '../../cli/src/names.ts';
import { type Finding, isServer, isTest, type Source } from './sources.ts';

export function checkCompleteness(sources: Source[]): Finding[] {
  return [...reasons(sources), ...pythonClient(sources), ...kinds(sources), ...commands(sources)];
}

function* reasons(sources: Source[]): Generator<Finding> {
  const page = textOf(sources, 'docs/errors.md');
  const users = sources
    .filter((source) => /\.(ts|py)$/.test(source.path) && !isTest(source) && source.path !== 'contract/src/errors.ts')
    .map(({ code }) => code)
    .join('\n');
  for (const reason of Object.keys(hints)) {
    if (!page.includes(`\`${reason}\``)) yield finding('reasons', 'docs/errors.md', `does not explain \`${reason}\``);
    if (!users.includes(`'${reason}'`)) yield finding('reasons', 'contract/src/errors.ts', `nobody says \`${reason}\``);
  }
}

/** `packageIndexes.get` is `def get` in `class PackageIndexes`. */
function* pythonClient(sources: Source[]): Generator<Finding> {
  const path = 'python/src/stellwerk/client/verbs.py';
  const classes = new Map(
    textOf(sources, path)
      .split(/^class /m)
      .slice(1)
      .map((text) => [/^\w+/.exec(text)![0], text] as const),
  );
  for (const { name, noun, verb } of eachVerb()) {
    const body = classes.get(noun[0]!.toUpperCase() + noun.slice(1));
    const method = verb.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (!body || !new RegExp(`\\bdef ${method}_?\\(`).test(body))
      yield finding('python-client', path, `has no ${name}`);
  }
}

/** Where a command is named to a user (`stellwerk run list`, or a line of an example), it must be there. */
function* commands(sources: Source[]): Generator<Finding> {
  const known = new Set(comforts.flatMap(({ name }) => [name, name.split(' ')[0]!]));
  for (const { noun, verb } of eachVerb()) known.add(nounOf(noun)).add(`${nounOf(noun)} ${kebab(verb)}`);
  const alone = new Set(comforts.map(({ name }) => name).filter((name) => !name.includes(' ')));
  const told = sources.filter(({ path }) =>
    /\.md$|^(contract|server|client|cli)\/src\/.*\.ts$|^python\/src\/.*\.py$/.test(path),
  );
  for (const { path, text } of told) {
    for (const [, noun, verb] of text.matchAll(
      /(?:`|^\s*\$? ?)stellwerk ([a-z][a-z-]*)(?: ([a-z][a-z-]*)(?=[ `\n]))?/gm,
    )) {
      const name = alone.has(noun!) || verb === undefined ? noun! : `${noun} ${verb}`;
      if (!known.has(name)) yield finding('commands', path, `names a command that is not there: stellwerk ${name}`);
    }
  }
}

/** A kind is a file or a folder in a room's `kinds/`. */
function* kinds(sources: Source[]): Generator<Finding> {
  const found = new Map<string, Source[]>();
  for (const source of sources.filter(isServer)) {
    const match = /^server\/src\/(\w+)\/kinds\/([\w-]+?)(?:\.test)?(?:\.ts$|\/)/.exec(source.path);
    if (match) found.set(`${match[1]}/${match[2]}`, [...(found.get(`${match[1]}/${match[2]}`) ?? []), source]);
  }
  const contract = sources.filter(({ path }) => path.startsWith('contract/src/')).map(({ code }) => code);
  for (const [name, files] of found) {
    const [room, kind] = name.split('/') as [string, string];
    if (kind === 'fake') continue;
    const folder = `server/src/${room}/kinds/${kind}`;
    if (!contract.some((code) => code.includes(`'${kind}'`)))
      yield finding('kinds', folder, 'has no settings in the contract');
    if (!files.some((file) => isTest(file) && /suite/.test(file.code)))
      yield finding('kinds', folder, 'is not run by the suite of its kind');
    const page = `docs/kinds/${room}-${kind}.md`;
    if (!sources.some(({ path }) => path === page)) yield finding('kinds', folder, `has no page ${page}`);
  }
}

const finding = (rule: string, path: string, what: string): Finding => ({ rule, path, what });
const textOf = (sources: Source[], path: string) => sources.find((source) => source.path === path)?.text ?? '';
