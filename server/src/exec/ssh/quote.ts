// A machine that is reached by SSH hands what it is told to a shell. Nothing else writes a command line for it.

const plain = /^[\w@%+=:,./-]+$/;

/** One word for a POSIX shell, whatever is in it. */
function shellWord(text: string): string {
  if (text.includes('\0')) throw new Error('A word of a command line cannot have a NUL character.');
  return plain.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A program with its arguments, in an environment that has these variables too. */
export function commandLine(words: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const names = Object.keys(env);
  const odd = names.find((name) => !/^[A-Za-z_]\w*$/.test(name));
  if (odd !== undefined) throw new Error(`${odd} is no name of a variable.`);
  const set = names.map((name) => `${name}=${env[name]}`);
  return [...(set.length > 0 ? ['env', ...set] : []), ...words].map(shellWord).join(' ');
}
