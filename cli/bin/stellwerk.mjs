#!/usr/bin/env node
// The published command. Written so that any Node that knows modules can read it: an old one gets a message, not a syntax error.
var major = Number(process.versions.node.split('.')[0]);
if (major < 24) {
  process.stderr.write(
    'Stellwerk needs Node 24 or newer, and this is Node ' +
      process.versions.node +
      '.\nInstall a newer Node (https://nodejs.org), or run it with one from npm: npx -p node@24 -p stellwerk stellwerk\n',
  );
  process.exit(1);
}
// SQLite is part of Node; that its interface may still change concerns us, not whoever types a command.
var emitWarning = process.emitWarning;
process.emitWarning = function () {
  if (arguments[1] === 'ExperimentalWarning' || (arguments[1] && arguments[1].type === 'ExperimentalWarning')) return;
  emitWarning.apply(process, arguments);
};
import('../dist/main.mjs').catch((error) => {
  process.stderr.write(String((error && error.stack) || error) + '\n');
  process.exit(1);
});
