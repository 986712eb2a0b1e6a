// `*.runconfig`: a run configuration as YAML beside the training script, saved and loaded without loss; a key that is not known is refused with its line.
import { readFileSync, writeFileSync } from 'node:fs';
import { type RunConfigurationInput, runConfiguration } from '@stellwerk/contract/run-configuration.ts';
import { type Document, isMap, LineCounter, parseDocument, stringify } from 'yaml';
import type { z } from 'zod';
import { CommandFailed } from './failures.ts';

export function loadRunConfiguration(path: string): Partial<RunConfigurationInput> {
  const text = readFileSync(path, 'utf8').replace(/^\ufeff/, '');
  const lines = new LineCounter();
  const { document, content } = contentOf(path, text, lines);
  const outcome = runConfiguration.partial({ script: true }).safeParse(content);
  if (!outcome.success) throw firstFlaw(path, document, lines, outcome.error.issues[0]!);
  return content as Partial<RunConfigurationInput>;
}

function contentOf(path: string, text: string, lines: LineCounter) {
  try {
    // Of thousands of errors each would be shown in its surroundings, if they were to be pretty.
    const document = parseDocument(text, {
      lineCounter: lines,
      schema: 'core',
      customTags: [],
      prettyErrors: false,
      logLevel: 'error',
    });
    const failure = document.errors[0];
    if (failure) throw refused(path, lines.linePos(failure.pos[0]).line, failure.message);
    return { document, content: (document.toJS({ maxAliasCount: 100 }) ?? {}) as Record<string, unknown> };
  } catch (error) {
    if (error instanceof RangeError) throw refused(path, 1, 'it is nested too deep');
    if (error instanceof ReferenceError) throw refused(path, 1, 'its aliases would make too much of little');
    throw error;
  }
}

export function saveRunConfiguration(path: string, configuration: Partial<RunConfigurationInput>): void {
  writeFileSync(path, stringify(configuration, { lineWidth: 0 }));
}

function firstFlaw(path: string, document: Document, lines: LineCounter, issue: z.core.$ZodIssue): CommandFailed {
  if (issue.code === 'unrecognized_keys') {
    const [key] = issue.keys as [string];
    const line = lineOf(document, lines, [...issue.path, key]);
    return refused(path, line, `the key ${JSON.stringify(key)}${within(issue.path)} is not known`);
  }
  const where = issue.path.map(String).join('.');
  return refused(path, lineOf(document, lines, issue.path), `${where ? `${where}: ` : ''}${issue.message}`);
}

const within = (path: readonly PropertyKey[]) => (path.length > 0 ? ` in ${path.map(String).join('.')}` : '');

function lineOf(document: Document, lines: LineCounter, path: readonly PropertyKey[]): number | undefined {
  const parent = path.length > 1 ? document.getIn(path.slice(0, -1), true) : document.contents;
  const last = path.at(-1);
  if (isMap(parent)) {
    const pair = parent.items.find((item) => String(item.key) === String(last));
    const range = (pair?.key as { range?: [number, number, number] } | undefined)?.range;
    if (range) return lines.linePos(range[0]).line;
  }
  const range = (parent as { range?: [number, number, number] } | null)?.range;
  return range && lines.linePos(range[0]).line;
}

function refused(path: string, line: number | undefined, why: string): CommandFailed {
  return new CommandFailed(
    `${path}${line === undefined ? '' : `, line ${line}`}: ${why.slice(0, 500).replace(/\.$/, '')}.`,
    'Correct the run configuration; `stellwerk run submit --help` and docs/concepts/run.md name its fields.',
  );
}
