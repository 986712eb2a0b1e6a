// Values that are given as `@file`: JSON, or YAML, whose parser is loaded only if such a file is named.
import { readFileSync } from 'node:fs';
import { parseJson } from '@stellwerk/contract/json-shape.ts';

const isYaml = (path: string) => /\.(ya?ml|runconfig)$/i.test(path);
let parseYaml: ((text: string) => unknown) | undefined;

export async function prepareYaml(typed: Record<string, unknown>): Promise<void> {
  const texts = Object.values(typed).flat().map(String);
  if (texts.some((text) => text.includes('@') && isYaml(text))) parseYaml = (await import('yaml')).parse;
}

export function dataFile(path: string): unknown {
  const text = readFileSync(path, 'utf8').replace(/^\ufeff/, '');
  return isYaml(path) && parseYaml ? parseYaml(text) : parseJson(text);
}
