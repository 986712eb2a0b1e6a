// What the command line is called in: environment, folders, terminal. The one file of the CLI that reads environment variables.
import { homedir } from 'node:os';
import { join } from 'node:path';

const given = (name: string) => process.env[name] || undefined;

export const surroundings = {
  url: given('STELLWERK_URL'),
  token: given('STELLWERK_TOKEN'),
  caBundle: given('STELLWERK_CA_BUNDLE'),
  workspace: given('STELLWERK_WORKSPACE'),
  uv: given('STELLWERK_UV'),
  configFolder: join(given('XDG_CONFIG_HOME') ?? join(homedir(), '.config'), 'stellwerk'),
  cacheFolder: join(given('XDG_CACHE_HOME') ?? join(homedir(), '.cache'), 'stellwerk'),
  dataFolder: join(given('XDG_DATA_HOME') ?? join(homedir(), '.local', 'share'), 'stellwerk'),
  user: given('USER') ?? given('USERNAME'),
  python: given('STELLWERK_PYTHON') ?? 'python3',
  /** For the programs that are started for the user: what the user's own shell would give them. */
  environment: (): Record<string, string> =>
    Object.fromEntries(
      Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined),
    ),
  variable: given,
  isTerminal: process.stdout.isTTY === true,
  showsProgress: process.stderr.isTTY === true,
  width: process.stdout.columns ?? 120,
};
