// Writes docs/errors.md: every reason for which something is refused, the answer's status, and what to do; with --check fails if it is
// not up to date. The status is read where the reason is thrown.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ErrorCode, hints, statusOf } from '@stellwerk/contract/errors.ts';
import { readSources, root } from './tidy/sources.ts';

const file = join(root, 'docs', 'errors.md');

const beginning = `# Errors

Whatever Stellwerk refuses, it says what was wrong, in a full sentence that names the thing, and what to do about it. Over HTTP the answer is

\`\`\`json
{"code": "failed-precondition", "reason": "model.in-use", "message": "…", "hint": "…"}
\`\`\`

- \`code\` says what kind of refusal it is, and has one HTTP status: ${Object.entries(statusOf)
  .map(([code, status]) => `\`${code}\` ${status}`)
  .join(', ')}.
- \`reason\` is specific and stable: programs may rely on it. Every one is listed below.
- \`details\`, where there are any, are facts for programs, such as the offset to go on from.
- \`incident\` comes with \`internal\` only: it finds our fault in the server's log.

In TypeScript and Python a refusal is a \`ServiceError\` with the same fields; the command line prints message and hint and ends with 1.
This page is made by \`node tools/launch.mjs tools/errors-page.ts\`.
`;

/** The codes that a reason is thrown with: \`new ServiceError('conflict', 'model.in-use', …)\`. */
function codesByReason(): Map<string, Set<ErrorCode>> {
  const codes = new Map<string, Set<ErrorCode>>();
  const code = readSources()
    .filter(({ path }) => /^(server|contract|client)\/src\/.*\.ts$/.test(path) && !path.endsWith('.test.ts'))
    .map((source) => source.code)
    .join('\n');
  for (const [, thrown, reason] of code.matchAll(/'([a-z-]+)',\s*'([a-z-]+\.[a-z-]+)'/g)) {
    if (thrown! in statusOf && reason! in hints)
      codes.set(reason!, (codes.get(reason!) ?? new Set()).add(thrown as ErrorCode));
  }
  return codes;
}

function page(): string {
  const codes = codesByReason();
  const sections = Map.groupBy(Object.entries(hints), ([reason]) => reason.split('.')[0]!);
  const rows = (reasons: [string, string][]) =>
    reasons.map(([reason, hint]) => {
      const statuses = [...(codes.get(reason) ?? [])].sort().map((code) => `${statusOf[code]} \`${code}\``);
      return `| \`${reason}\` | ${statuses.join(', ')} | ${hint.replaceAll('|', '\\|')} |`;
    });
  const text = [...sections].map(([section, reasons]) =>
    [`## ${section}`, '', '| reason | status | what to do |', '|---|---|---|', ...rows(reasons), ''].join('\n'),
  );
  return `${beginning}\n${text.join('\n')}`;
}

const wanted = page();
if (!process.argv.includes('--check')) writeFileSync(file, wanted);
else if (readFileSync(file, 'utf8') !== wanted) {
  process.stderr.write('docs/errors.md is not what the code says: run `node tools/launch.mjs tools/errors-page.ts`.\n');
  process.exitCode = 1;
}
