// Writes docs/attacks.md: every attack of test/guards, what is in its way, and the test that fails without it; with --check fails if it
// is not up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { attacks, nothingToAttack } from '../test/guards/attacks.ts';
import { root } from './tidy/sources.ts';

const file = join(root, 'docs', 'attacks.md');

const beginning = `# Attacks

What somebody may try, what is in the way, and the test that fails when it is taken away. \`npm test -- guards\` takes each guard away,
in a copy of the sources, and expects that. Where two guards stand behind each other, both are named and taken away together.
This page is made of \`test/guards/\` by \`node tools/launch.mjs tools/attacks-page.ts\`.
`;

const cell = (text: string) => text.replaceAll('|', '\\|');

function page(): string {
  const sections = Object.entries(attacks).map(([group, guards]) => {
    const rows = guards.map(({ attack, guard, changes, test }) => {
      const places = [...new Set(changes.map((change) => change.file))].map((path) => `\`${path}\``).join(', ');
      return `| ${cell(attack)} | ${cell(guard)} (${places}) | \`${test}\` |`;
    });
    return [`## ${group}`, '', '| attack | guard | test |', '|---|---|---|', ...rows, ''].join('\n');
  });
  const rest = Object.entries(nothingToAttack).map(([attack, why]) => `| ${cell(attack)} | ${cell(why)} |`);
  const none = ['## Nothing to attack', '', '| attack | why not |', '|---|---|', ...rest, ''].join('\n');
  return [beginning, ...sections, none].join('\n');
}

const wanted = page();
if (!process.argv.includes('--check')) writeFileSync(file, wanted);
else if (readFileSync(file, 'utf8') !== wanted) {
  process.stderr.write(
    'docs/attacks.md is not what test/guards says: run `node tools/launch.mjs tools/attacks-page.ts`.\n',
  );
  process.exitCode = 1;
}
