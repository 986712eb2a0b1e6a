// pip's own configuration, read as pip reads it and said as index settings: uv does not look at it, users expect it to hold.
// Files in pip's order (global, user, the one that PIP_CONFIG_FILE names), then the variables PIP_*, which win.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { IndexSettings } from '@stellwerk/contract/environment.ts';
import { type Address, withoutCredential } from './index-settings.ts';

type Environment = Readonly<Record<string, string>>;

export async function pipConfiguration(environment: Environment): Promise<IndexSettings> {
  const values = new Map<string, string>();
  for (const file of configurationFiles(environment)) {
    for (const [key, value] of parseConfiguration(await textOf(file))) values.set(key, value);
  }
  for (const [name, value] of Object.entries(environment)) {
    if (name.startsWith('PIP_') && value !== '') values.set(name.slice(4).toLowerCase().replaceAll('_', '-'), value);
  }
  return settingsOf(values, await textOf(values.get('cert') ?? ''));
}

function configurationFiles(environment: Environment): string[] {
  const named = environment.PIP_CONFIG_FILE;
  if (named === '/dev/null') return [];
  const home = environment.HOME;
  const global = [
    ...(environment.XDG_CONFIG_DIRS ?? '/etc/xdg').split(':').map((folder) => join(folder, 'pip', 'pip.conf')),
    '/etc/pip.conf',
  ];
  const user = home
    ? [join(home, '.pip', 'pip.conf'), join(environment.XDG_CONFIG_HOME ?? join(home, '.config'), 'pip', 'pip.conf')]
    : [];
  return [...global, ...user, ...(named ? [named] : [])];
}

async function textOf(file: string): Promise<string> {
  if (file === '') return '';
  return readFile(file, 'utf8').catch(() => '');
}

/** Keys of [global] first and of [install] over them, as for `pip install`. */
export function parseConfiguration(text: string): Map<string, string> {
  const sections = new Map<string, Map<string, string>>();
  let section: Map<string, string> | undefined;
  let key: string | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;].*)?$/.test(line)) continue;
    const heading = /^\[(.+)\]\s*$/.exec(line);
    const pair = /^([^\s=:][^=:]*)[=:]([\s\S]*)$/.exec(line);
    if (heading) {
      section = sections.get(heading[1]!) ?? new Map<string, string>();
      sections.set(heading[1]!, section);
      key = undefined;
    } else if (/^\s/.test(line) && section && key) {
      section.set(key, `${section.get(key)} ${line.trim()}`.trim());
    } else if (pair && section) {
      key = pair[1]!.trim().toLowerCase().replaceAll('_', '-');
      section.set(key, pair[2]!.trim());
    }
  }
  return new Map([...(sections.get('global') ?? []), ...(sections.get('install') ?? [])]);
}

function settingsOf(values: ReadonlyMap<string, string>, caBundle: string): IndexSettings {
  const list = (key: string) => (values.get(key) ?? '').split(/\s+/).filter((item) => item !== '');
  const yes = (key: string) => /^(1|y|yes|t|true|on)$/i.test(values.get(key) ?? '');
  const addresses = (key: string): Address[] => list(key).map(withoutCredential);
  const [index, extra, links] = [addresses('index-url'), addresses('extra-index-url'), addresses('find-links')];
  const credentials = [...index, ...extra, ...links].flatMap(({ credential }) => credential ?? []);
  const timeout = Math.ceil(Number(values.get('timeout') ?? values.get('default-timeout')));
  const proxy = values.get('proxy');
  return {
    ...(index[0] && { indexUrl: index[0].url }),
    ...(extra.length > 0 && { extraIndexUrls: extra.map(({ url }) => url) }),
    ...(links.length > 0 && { findLinks: links.map(({ url }) => url) }),
    ...(yes('no-index') && { noIndex: true }),
    ...(yes('pre') && { preReleases: true }),
    ...(list('trusted-host').length > 0 && { trustedHosts: list('trusted-host') }),
    ...(proxy && { httpProxy: proxy, httpsProxy: proxy }),
    ...(timeout > 0 && timeout <= 3_600 && { timeoutSeconds: timeout }),
    ...(caBundle && { caBundle }),
    ...(credentials.length > 0 && { credentials }),
  };
}
