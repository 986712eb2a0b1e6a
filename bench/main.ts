// `npm run bench`: prints one JSON line per figure; `npm run bench -- ingest search` only those. What is measured, and how, is in README.md.
import { print } from './figure.ts';
import { pack } from './product.ts';
import { suites } from './suites.ts';

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !suites.some(({ names }) => names.includes(name)));
if (unknown.length > 0) {
  process.stderr.write(
    `There is no figure ${unknown.join(', ')}; there are ${suites.flatMap(({ names }) => names).join(', ')}.\n`,
  );
  process.exit(2);
}
pack();
for (const { names, measure } of suites) {
  if (asked.length > 0 && !names.some((name) => asked.includes(name))) continue;
  for await (const figure of measure(asked)) print(figure);
}
