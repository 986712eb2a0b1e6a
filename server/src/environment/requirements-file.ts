// A requirements file as pip reads it, line by line, so that what cannot be kept is refused with its line and its reason.
// Indexes named in it become index settings; credentials never stay in a line.
import type { IndexCredential, IndexSettings } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { withoutCredential } from './index-settings.ts';

export interface Requirement {
  /** The project's name in normal form, as indexes compare it. */
  name: string;
  /** Name, extras, version and marker, as uv takes it. */
  text: string;
  hashes: string[];
  /** Where it stands in the user's file; with `file` it can be found. */
  line: number;
  /** The address that it is to be fetched from, if it names one. */
  url?: string;
}

export interface RequirementsFile {
  requirements: Requirement[];
  indexes: IndexSettings;
  /** `--no-binary` and `--only-binary` lines, which uv reads in a requirements file. */
  options: string[];
  notices: string[];
}

export interface Where {
  /** How messages call the file. */
  file: string;
  /** Added to the line numbers, for a part of a larger file. */
  firstLine?: number;
}

export function parseRequirements(text: string, where: Where): RequirementsFile {
  const file: RequirementsFile = { requirements: [], indexes: {}, options: [], notices: [] };
  for (const { line, content } of logicalLines(text, where.firstLine ?? 1)) {
    const at = { ...where, line };
    if (content.startsWith('-')) readOption(content, at, file);
    else file.requirements.push(readRequirement(content, at, file));
  }
  return file;
}

export function refused(at: { file: string; line: number }, what: string): ServiceError {
  return new ServiceError('invalid-argument', 'environment.invalid', `Line ${at.line} of ${at.file}: ${what}`);
}

export function normalName(name: string): string {
  return name.toLowerCase().replace(/[-_.]+/g, '-');
}

function* logicalLines(text: string, firstLine: number): Generator<{ line: number; content: string }> {
  let begun: { line: number; content: string } | undefined;
  for (const [at, raw] of text
    .replace(/^\ufeff/, '')
    .split(/\r\n|\r|\n/)
    .entries()) {
    const isComment = /^\s*#/.test(raw);
    const continues = raw.endsWith('\\') && !isComment;
    const content = isComment ? '' : raw.slice(0, continues ? -1 : undefined);
    begun = begun ? { line: begun.line, content: `${begun.content} ${content}` } : { line: at + firstLine, content };
    if (continues) continue;
    const comment = begun.content.search(/\s#/);
    const cleaned = begun.content.slice(0, comment < 0 ? undefined : comment).trim();
    if (cleaned !== '') yield { line: begun.line, content: cleaned };
    begun = undefined;
  }
  if (begun && begun.content.trim() !== '') yield { line: begun.line, content: begun.content.trim() };
}

const refusals: Record<string, string> = {
  '-r': 'files that include other files (`-r`) cannot be used, because only this file is sent: put the lines of the other file here.',
  '-c': 'constraints files (`-c`) cannot be used, because only this file is sent: give the versions here.',
  '-e': "editable packages (`-e`) cannot be used: the environment is shared by runs and goes into images. Put the code into the run's directory, or name a published package.",
  '--global-option':
    '`--global-option` passes flags to old build programs and is not supported: name a package that has a wheel.',
  '--config-settings': '`--config-settings` is not supported: name a package that has a wheel.',
};
const longNames: Record<string, string> = {
  '-i': '--index-url',
  '--pypi-url': '--index-url',
  '-f': '--find-links',
  '--requirement': '-r',
  '--constraint': '-c',
  '--editable': '-e',
  '--install-option': '--global-option',
  '--config-setting': '--config-settings',
};
/** Options that change nothing here: uv and the lock see to it. */
const needless = new Set(['--require-hashes', '--prefer-binary', '--use-feature', '--no-deps', '--upgrade', '-U']);

function readOption(content: string, at: { file: string; line: number }, file: RequirementsFile): void {
  const [, given = '', rest = ''] = /^(--[\w-]+|-\w)\s*=?([\s\S]*)$/.exec(content) ?? [];
  const value = rest.trim();
  const option = longNames[given] ?? given;
  const refusal = refusals[option];
  if (refusal) throw refused(at, refusal);
  if (needless.has(option))
    return void file.notices.push(`Line ${at.line} of ${at.file}: \`${option}\` is left out; it has no effect here.`);
  if (option === '--pre') return void Object.assign(file.indexes, { preReleases: true });
  if (option === '--no-index') return void Object.assign(file.indexes, { noIndex: true });
  if (value === '') throw refused(at, `\`${given || content}\` is not an option of a requirements file.`);
  if (option === '--only-binary' || option === '--no-binary')
    return void file.options.push(binaryOption(option, value, at));
  if (option === '--trusted-host') append(file.indexes, 'trustedHosts', value);
  else if (/^--(extra-)?index-url$|^--find-links$/.test(option)) readIndex(option, value, at, file);
  else throw refused(at, `\`${given}\` is not an option of a requirements file.`);
}

function binaryOption(option: string, value: string, at: { file: string; line: number }): string {
  if (!/^[\w.:,-]+$/.test(value))
    throw refused(at, `\`${option}\` takes package names, \`:all:\` or \`:none:\`, separated by commas.`);
  return `${option} ${value}`;
}

function readIndex(option: string, value: string, at: { file: string; line: number }, file: RequirementsFile): void {
  const clean = take(unquoted(value), at, file.indexes);
  if (option !== '--find-links' && !/^(https?|file):\/\/\S+$/.test(clean.url))
    throw refused(at, `\`${option}\` takes the address of a package index, such as https://example.org/simple.`);
  if (option === '--index-url') file.indexes.indexUrl = clean.url;
  else append(file.indexes, option === '--find-links' ? 'findLinks' : 'extraIndexUrls', clean.url);
  const secret = clean.hadCredential ? ' Its user name and password are kept out of every record.' : '';
  file.notices.push(`Line ${at.line} of ${at.file}: \`${option} ${clean.url}\` is taken as an index setting.${secret}`);
}

function append(indexes: IndexSettings, key: 'trustedHosts' | 'findLinks' | 'extraIndexUrls', value: string): void {
  indexes[key] = [...(indexes[key] ?? []), value];
}

function unquoted(value: string): string {
  return value.replace(/^(["'])(.*)\1$/, '$2');
}

/** The address without its credential, which goes to the settings. */
function take(
  text: string,
  at: { file: string; line: number },
  indexes: IndexSettings,
): { url: string; hadCredential: boolean } {
  if (/\$\{\w+\}/.test(text))
    throw refused(
      at,
      'environment variables in addresses are not filled in: set the index with its credentials once in the index settings.',
    );
  const { url, credential } = withoutCredential(text);
  if (credential) indexes.credentials = [...(indexes.credentials ?? []), credential satisfies IndexCredential];
  return { url, hadCredential: credential !== undefined };
}

const namePattern = /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[A-Za-z0-9._\s,-]*\])?([\s\S]*)$/;
const versionPattern = /^(?:(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9._*+!-]+\s*(?:,\s*|$))*$/;

function readRequirement(content: string, at: { file: string; line: number }, file: RequirementsFile): Requirement {
  const hashes = [...content.matchAll(/\s--hash[=\s]\s*(\S+)/g)].map(([, hash]) => hash!);
  for (const hash of hashes) {
    if (!/^sha(256|384|512):[0-9a-f]{64,128}$/.test(hash))
      throw refused(at, `\`${hash.slice(0, 100)}\` is not a hash that can be checked (sha256, sha384 or sha512).`);
  }
  const plain = content.replace(/\s--hash[=\s]\s*\S+/g, '').trim();
  const extra = /\s(--[\w-]+)/.exec(plain)?.[1];
  if (extra) throw refused(at, refusals[extra] ?? `\`${extra}\` is not an option of a requirement.`);
  const [, name, extras = '', after = ''] = namePattern.exec(plain) ?? [];
  const rest = after.trim();
  if (!name || /^(\.{0,2}\/|file:)/.test(plain) || /^[a-z][a-z0-9+]*:\/\//i.test(plain)) throw unnamed(plain, at);
  const inNormalForm = { name: normalName(name), hashes, line: at.line };
  if (rest.startsWith('@'))
    return { ...inNormalForm, ...readAddress(`${name}${extras}`, rest.slice(1).trim(), at, file) };
  const [version = '', ...markers] = rest.split(';');
  const bare = version
    .trim()
    .replace(/^\((.*)\)$/, '$1')
    .trim();
  if (!versionPattern.test(bare))
    throw refused(
      at,
      `\`${plain.slice(0, 200)}\` is not a requirement: write a name and versions, such as \`numpy>=1.26,<3\`.`,
    );
  const marker = markers.join(';').trim();
  return {
    ...inNormalForm,
    text: `${name}${extras.replace(/\s/g, '')}${bare.replace(/\s/g, '')}${marker ? ` ; ${marker}` : ''}`,
  };
}

function unnamed(text: string, at: { file: string; line: number }): ServiceError {
  const { url } = withoutCredential(text);
  if (/^(git|hg|svn|bzr)\+/.test(text)) return vcsRefused(url, at);
  if (/^https?:\/\//.test(text))
    return refused(
      at,
      `\`${url.slice(0, 200)}\`: write the package's name before its address, as \`name @ https://…\`.`,
    );
  return refused(
    at,
    `\`${url.slice(0, 200)}\` is not the name of a package. Files and folders cannot be named, because only this file is sent.`,
  );
}

function vcsRefused(url: string, at: { file: string; line: number }): ServiceError {
  return refused(
    at,
    `\`${url.slice(0, 200)}\` is in version control, which has no hash that a lock could check: name a published package, or the address of a wheel or source archive.`,
  );
}

function readAddress(
  named: string,
  rest: string,
  at: { file: string; line: number },
  file: RequirementsFile,
): { text: string; url: string } {
  const [address = '', ...after] = rest.split(/\s+;\s*|\s+/);
  const { url, hadCredential } = take(address, at, file.indexes);
  if (/^(git|hg|svn|bzr)\+/.test(url)) throw vcsRefused(url, at);
  if (!/^https?:\/\/[^\s/]/.test(url) || !URL.parse(url))
    throw refused(
      at,
      `\`${url.slice(0, 200)}\` cannot be fetched: only https and http addresses can, because only this file is sent.`,
    );
  if (hadCredential)
    file.notices.push(
      `Line ${at.line} of ${at.file}: the user name and password of ${url} are kept out of every record.`,
    );
  const marker = after.join(' ').trim();
  return { text: `${named} @ ${url}${marker ? ` ; ${marker}` : ''}`, url };
}
