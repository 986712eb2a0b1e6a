// The rules of CONTRIBUTING.md that a machine can check, over all sources, in about a second: floors and front doors, words where they
// belong, nothing unfinished, nothing left out. `tidy-exceptions.json` lists what is let pass; it may only shrink, so an entry
// that is no longer needed is itself a finding. `--list` prints the findings in the form of that file.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkCompleteness } from './tidy/completeness.ts';
import { checkFloors } from './tidy/floors.ts';
import { type Finding, readSources, root } from './tidy/sources.ts';
import { checkWords } from './tidy/words.ts';

const sources = readSources();
const findings = [...checkFloors(sources), ...checkWords(sources), ...checkCompleteness(sources)];
const textOf = ({ rule, path, what }: Finding) => `${rule}: ${path} ${what}`;
const texts = new Set(findings.map(textOf));

if (process.argv.includes('--list')) process.stdout.write(`${JSON.stringify([...texts].sort(), null, 2)}\n`);
else {
  const letPass = JSON.parse(readFileSync(join(root, 'tools', 'tidy-exceptions.json'), 'utf8')) as string[];
  const wrong = [...texts].filter((text) => !letPass.includes(text));
  const stale = letPass.filter((text) => !texts.has(text));
  for (const text of wrong) process.stdout.write(`${text}\n`);
  for (const text of stale) process.stdout.write(`tidy-exceptions.json: no longer needed: ${text}\n`);
  process.stdout.write(
    `tidy: ${sources.length} files, ${wrong.length + stale.length} findings, ${letPass.length} exceptions\n`,
  );
  process.exitCode = wrong.length + stale.length > 0 ? 1 : 0;
}
