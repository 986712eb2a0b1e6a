// Values that are given as `@file`: JSON, or YAML, whose parser is loaded only if such a file is named.
import { readFileSync } from 'node:fs';
import { flawOfJson, parseJson } from '@stellwerk/contract/json-shape.ts';

const isYaml = (path: string) => /\.(ya?ml|runconfig)$/i.test(path);
/** An alias bomb is more than this; a file that people write is not. */
const aliases = 100;
let parseYaml: ((text: string) => unknown) | undefined;

export async function prepareYaml(typed: Record<string, unknown>): Promise<void> {
  const texts = Object.values(typed).flat().map(String);
  if (!texts.some((text) => text.includes('@') && isYaml(text))) return;
  const { parse } = (await import('yaml')).default;
  // Of thousands of errors each would be shown in its surroundings, if they were to be pretty.
  parseYaml = (text) => parse(text, { maxAliasCount: aliases, prettyErrors: false, logLevel: 'error' });
}

export function dataFile(path: string): unknown {
  const text = readFileSync(path, 'utf8').replace(/^\ufeff/, '');
  return isYaml(path) && parseYaml ? shallow(read(parseYaml, text)) : parseJson(text);
}

function read(parse: (text: string) => unknown, text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    // The parser may give the overflow of the stack as an error of the text.
    if (error instanceof RangeError || String(error).includes('call stack'))
      throw new SyntaxError('it is nested too deep');
    if (error instanceof ReferenceError) throw new SyntaxError('its aliases would make too much of little');
    throw error;
  }
}

function shallow(value: unknown): unknown {
  const flaw = flawOfJson(value);
  if (flaw) throw new SyntaxError(flaw);
  return value;
}
