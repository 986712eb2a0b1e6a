// A conda environment file, read with the line of everything in it, and said in pip's words where conda is not there.

import { ServiceError } from '@stellwerk/contract/errors.ts';
import { isMap, isScalar, isSeq, LineCounter, type ParsedNode, parseDocument } from 'yaml';
import { broughtAlong, condaOnly, renamed } from './conda-names.ts';
import { withoutCredential } from './index-settings.ts';
import { parseRequirements, type RequirementsFile, refused } from './requirements-file.ts';

export interface CondaPackage {
  name: string;
  /** As it stands in the file, without its channel's credentials. */
  text: string;
  /** Versions in pip's words: `==1.15.*`. */
  versions: string;
  hasBuild: boolean;
  line: number;
}

export interface CondaFile {
  name?: string;
  channels: string[];
  python?: { minor: string; text: string; line: number };
  packages: CondaPackage[];
  pip: RequirementsFile;
  notices: string[];
}

const ignored: Readonly<Record<string, string>> = {
  prefix: 'the environment has a place of its own',
  variables: 'give them as environment variables of the run configuration',
};

const longestText = 256 * 1024;

export function parseCondaFile(text: string, file = 'the conda file'): CondaFile {
  if (text.length > longestText)
    throw refused({ file, line: 1 }, `it is longer than ${longestText} characters, which no conda file needs.`);
  const lines = new LineCounter();
  const document = documentOf(text, lines, file);
  const lineOf = (node: unknown) => lines.linePos((node as ParsedNode | null)?.range?.[0] ?? 0).line || 1;
  const flaw = document.errors[0];
  if (flaw)
    throw refused(
      { file, line: lines.linePos(flaw.pos[0]).line || 1 },
      `it is not YAML: ${flaw.message.split('\n')[0]}`,
    );
  if (!isMap(document.contents))
    throw refused({ file, line: 1 }, 'a conda file has `name`, `channels` and `dependencies` at its top.');
  const found: CondaFile = { channels: [], packages: [], pip: parseRequirements('', { file }), notices: [] };
  for (const { key, value } of document.contents.items) {
    const at = { file, line: lineOf(key) };
    const name = isScalar(key) ? String(key.value) : '';
    if (name === 'name') found.name = scalarText(value, at, '`name`');
    else if (name === 'channels')
      found.channels = sequence(value, at, 'channels').map((item) =>
        channelOf(scalarText(item, { file, line: lineOf(item) }, 'a channel'), { file, line: lineOf(item) }, found),
      );
    else if (name === 'dependencies')
      for (const item of sequence(value, at, 'dependencies'))
        readDependency(item, { file, line: lineOf(item) }, lineOf, found);
    else if (ignored[name])
      found.notices.push(`Line ${at.line} of ${file}: \`${name}\` is left out; ${ignored[name]}.`);
    else
      throw refused(
        at,
        `\`${name}\` is not known in a conda file; it may have name, channels, dependencies, prefix and variables.`,
      );
  }
  return found;
}

function documentOf(text: string, lineCounter: LineCounter, file: string) {
  try {
    // Of thousands of errors each would be shown in its surroundings, if they were to be pretty.
    return parseDocument(text, { lineCounter, schema: 'core', uniqueKeys: true, prettyErrors: false });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw refused({ file, line: 1 }, 'it is nested too deep.');
  }
}

interface At {
  file: string;
  line: number;
}

function sequence(node: unknown, at: At, what: string): unknown[] {
  if (isScalar(node) && node.value === null) return [];
  if (!isSeq(node)) throw refused(at, `\`${what}\` must be a list.`);
  return node.items;
}

function scalarText(node: unknown, at: At, what: string): string {
  if (!isScalar(node) || node.value === null || typeof node.value === 'object')
    throw refused(at, `${what} must be a text.`);
  return (typeof node.value === 'string' ? node.value : (node.source ?? String(node.value))).trim();
}

function channelOf(text: string, at: At, found: CondaFile): string {
  const { url, credential } = withoutCredential(text);
  const clean = url.replace(/\/t\/[^/]+\//, '/');
  if (!/^[A-Za-z0-9][\w.:/+-]*$/.test(clean)) throw refused(at, `\`${clean.slice(0, 200)}\` is not a channel.`);
  if (credential || clean !== url)
    found.notices.push(
      `Line ${at.line} of ${at.file}: the credentials of the channel ${clean} are left out; set them in conda's own configuration on the target.`,
    );
  return clean;
}

function readDependency(item: unknown, at: At, lineOf: (node: unknown) => number, found: CondaFile): void {
  if (isMap(item)) {
    const [pair, second] = item.items;
    if (!pair || second || !isScalar(pair.key) || pair.key.value !== 'pip')
      throw refused(at, 'the only list within `dependencies` is `pip:`.');
    for (const line of sequence(pair.value, at, 'pip'))
      readPip(
        scalarText(line, { ...at, line: lineOf(line) }, 'a pip requirement'),
        { ...at, line: lineOf(line) },
        found.pip,
      );
    return;
  }
  const read = readPackage(scalarText(item, at, 'a dependency'), at);
  if (read.name === 'python') found.python = { minor: minorOf(read, at), text: read.text, line: at.line };
  else found.packages.push(read);
}

function readPip(text: string, at: At, pip: RequirementsFile): void {
  const { requirements, indexes, options, notices } = parseRequirements(text, { file: at.file, firstLine: at.line });
  pip.requirements.push(...requirements);
  pip.options.push(...options);
  pip.notices.push(...notices);
  for (const key of ['extraIndexUrls', 'findLinks', 'trustedHosts', 'credentials'] as const) {
    if (indexes[key]) Object.assign(pip.indexes, { [key]: [...(pip.indexes[key] ?? []), ...indexes[key]] });
  }
  const { extraIndexUrls: _1, findLinks: _2, trustedHosts: _3, credentials: _4, ...single } = indexes;
  Object.assign(pip.indexes, single);
}

const specPattern = /^(?:(\S+)::)?([A-Za-z0-9_][\w.-]*)\s*(.*)$/;

function readPackage(text: string, at: At): CondaPackage {
  const [, channel, name, rest = ''] = specPattern.exec(text) ?? [];
  if (!name)
    throw refused(
      at,
      `\`${withoutCredential(text).url.slice(0, 200)}\` is not a conda package: write a name and a version, such as \`numpy=1.26\`.`,
    );
  if (rest.includes('['))
    throw refused(at, `\`${text}\`: conditions in brackets are not supported; write \`${name}=<version>\`.`);
  if (rest.includes('|'))
    throw refused(at, `\`${text}\`: alternatives (\`|\`) are not supported; name one range of versions.`);
  const { versions, hasBuild } = versionsOf(rest.trim(), text, at);
  const from = channel
    ? `${channelOf(channel, at, { channels: [], packages: [], pip: parseRequirements('', at), notices: [] })}::`
    : '';
  return {
    name: name.toLowerCase(),
    text: `${from}${name}${rest ? ` ${rest.trim()}`.replace(/^ (?=[=<>!~])/, '') : ''}`,
    versions,
    hasBuild,
    line: at.line,
  };
}

/** conda's `=1.15` is any 1.15; `==1.15` and a bare ` 1.15` are exactly that; a third part is a build. */
function versionsOf(rest: string, text: string, at: At): { versions: string; hasBuild: boolean } {
  if (rest === '' || rest === '*') return { versions: '', hasBuild: false };
  const single = /^(=?=?)\s*([A-Za-z0-9][\w.+!]*(?:\.\*|\*)?)(?:\s*=\s*|\s+)?([\w.*]+)?$/.exec(rest);
  if (single) {
    const [, operator = '', version = '', build] = single;
    const stem = version.replace(/\.?\*$/, '');
    const fuzzy = version.endsWith('*') || (operator === '=' && build === undefined);
    return { versions: `==${stem}${fuzzy ? '.*' : ''}`, hasBuild: build !== undefined && build !== '*' };
  }
  const clauses = rest
    .split(',')
    .map((clause) => /^(>=|<=|==|!=|~=|=|>|<)?\s*([A-Za-z0-9][\w.+!]*(?:\.\*|\*)?)$/.exec(clause.trim()));
  if (clauses.some((clause) => !clause))
    throw refused(
      at,
      `\`${text}\`: its versions are not understood; write them as \`=1.26\`, \`==1.26.4\` or \`>=1.26,<3\`.`,
    );
  const versions = clauses.map((clause) => clauseOf(clause![1] ?? '', clause![2]!)).join(',');
  return { versions, hasBuild: false };
}

function clauseOf(operator: string, version: string): string {
  const stem = version.replace(/\.?\*$/, '');
  if (operator === '=') return `==${stem}.*`;
  if (operator === '' || operator === '==' || operator === '!=')
    return `${operator || '=='}${stem}${version.endsWith('*') ? '.*' : ''}`;
  return `${operator}${stem}`;
}

function minorOf(read: CondaPackage, at: At): string {
  const minor = /^(?:==|>=|~=)(3\.\d{1,2})(?:\.|$|,)/.exec(read.versions)?.[1];
  if (read.versions === '' || !minor)
    throw refused(at, `\`${read.text}\` does not name a minor version of Python 3; write it as \`python=3.11\`.`);
  return minor;
}

export interface AsPip {
  /** One requirements line each, with the package it came from. */
  lines: { text: string; from: CondaPackage }[];
  notices: string[];
}

/** conda's packages by PyPI's names. What only conda has is refused, all of it in one message. */
export function condaAsPip(packages: readonly CondaPackage[], file = 'the conda file'): AsPip {
  const impossible = packages.filter(({ name }) => condaOnly[name] !== undefined);
  if (impossible.length > 0)
    throw onlyConda(
      impossible.map(({ name, line }) => `${name} (line ${line}; ${condaOnly[name]})`),
      file,
    );
  const wanted = packages.filter(({ name }) => !broughtAlong.has(name));
  const dropped = packages.filter(({ name }) => broughtAlong.has(name));
  const lines = wanted.map((from) => ({ text: `${renamed[from.name] ?? from.name}${from.versions}`, from }));
  const notices =
    lines.length > 0
      ? [
          `There is no conda on the target: ${listed(lines.map(({ text, from }) => (renamed[from.name] ? `${from.name} (as ${text})` : text)))} ${lines.length === 1 ? 'comes' : 'come'} from PyPI.`,
        ]
      : [];
  if (dropped.length > 0)
    notices.push(
      `Left out, because Python or the wheels bring ${dropped.length === 1 ? 'it' : 'them'} along: ${listed(dropped.map(({ name }) => name))}.`,
    );
  const built = wanted.filter(({ hasBuild }) => hasBuild).map(({ name }) => name);
  if (built.length > 0)
    notices.push(`The builds named for ${listed(built)} are left out; PyPI has no builds of conda.`);
  return { lines, notices };
}

export function onlyConda(names: readonly string[], file: string): ServiceError {
  return new ServiceError(
    'failed-precondition',
    'environment.unresolvable',
    `There is no conda, mamba or micromamba on the machine that installs, and PyPI has no package for ${listed(names)} of ${file}. Install conda there, leave ${names.length === 1 ? 'it' : 'them'} out, or name what PyPI has under \`pip:\`.`,
  );
}

export function listed(names: readonly string[]): string {
  return names.length < 2 ? (names[0] ?? '') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
