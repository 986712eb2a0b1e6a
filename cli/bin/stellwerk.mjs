#!/usr/bin/env node
// The published command. Written so that any Node that knows modules can read it: an old one gets a message, not a syntax error.
const major = Number(process.versions.node.split('.')[0]);
if (major < 24) {
  process.stderr.write(`Stellwerk needs Node 24 or newer, and this is Node ${process.versions.node}.\n`);
  process.stderr.write('Install a newer Node, or take one from npm: npx -p node@24 -p stellwerk stellwerk --help\n');
  process.exit(1);
}
// SQLite is part of Node; that its interface may still change concerns us, not whoever types a command.
const emitWarning = process.emitWarning;
process.emitWarning = (warning, ...rest) => {
  const type = typeof rest[0] === 'object' ? rest[0].type : rest[0];
  if (type !== 'ExperimentalWarning') emitWarning.call(process, warning, ...rest);
};
import('../dist/main.mjs').catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
