// `stellwerk login`: with a sign-in link, a password or a token; kept for this user alone.

import { resolve } from 'node:path';
import { createClient } from '@stellwerk/client/client.ts';
import { Command } from 'commander';
import { ask, readInput } from '../ask.ts';
import { forgetSignIn, keepSignIn, plainUrl, readCredentials } from '../credentials.ts';
import { UsageError } from '../failures.ts';
import { line, printJson } from '../print.ts';
import { readCaBundle, type Session } from '../session.ts';
import { plain } from '../show/plain.ts';
import { surroundings } from '../surroundings.ts';

interface LoginOptions {
  tokenStdin?: boolean;
  user?: string;
  passwordStdin?: boolean;
  setPassword?: boolean;
  caBundle?: string;
}

export function loginCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('login')
    .argument('<url>', "The server's address, or a sign-in link, which is good once.")
    .option('--token-stdin', 'Read a token from standard input.')
    .option('--user <name>', 'Sign in with user name and password; the password is asked for.')
    .option('--password-stdin', 'Read the password from standard input.')
    .option('--set-password', 'With a sign-in link: set a password, to sign in with from now on.')
    .option('--ca-bundle <path>', 'A file with certificates (PEM) to trust for this server.');
  return command.action(async (address: string) => login(address, command.opts(), sessionOf(command)));
}

async function login(address: string, options: LoginOptions, session: Session): Promise<void> {
  const { url, code } = splitLink(address);
  const caBundle = options.caBundle ?? surroundings.caBundle;
  const connect = (token?: string) => createClient({ url, token, caBundle: readCaBundle(caBundle) });
  const token = await tokenFor(code, options, connect());
  const { user, roles } = await connect(token).me.get();
  keepSignIn(url, { token, ...(caBundle ? { caBundle: resolve(caBundle) } : {}) });
  if (session.json) return printJson({ url, user, roles });
  line(`Signed in to ${url} as ${plain(user.name)}${user.administrator ? ', an administrator' : ''}.`);
}

async function tokenFor(code: string, options: LoginOptions, client: ReturnType<typeof createClient>): Promise<string> {
  const tokenName = `command line${surroundings.user ? ` of ${surroundings.user}` : ''}`;
  if (code) {
    const password = options.setPassword ? await askPassword('New password: ', options) : undefined;
    return (await client.signIns.redeem({ code, tokenName, ...(password ? { password } : {}) })).token;
  }
  if (options.user !== undefined) {
    const password = await askPassword('Password: ', options);
    return (await client.signIns.create({ user: options.user, password, tokenName })).token;
  }
  if (options.tokenStdin) return (await readInput()).trim();
  if (surroundings.token) return surroundings.token;
  if (!process.stdin.isTTY)
    throw new UsageError(
      'Nothing to sign in with.',
      'Give a sign-in link, --user <name>, or a token with --token-stdin.',
    );
  return (await ask('Token: ', passwordFlags)).trim();
}

/** A sign-in link carries its code behind `#`, so that it reaches no log. */
export function splitLink(address: string): { url: string; code: string } {
  const withScheme = /^https?:\/\//.test(address) ? address : `http://${address}`;
  const url = URL.parse(withScheme);
  if (!url) throw new UsageError(`${JSON.stringify(address)} is not an address.`);
  const { origin, hash, pathname } = url;
  return { url: plainUrl(origin + pathname.replace(/\/sign-in\/?$/, '')), code: decodeURIComponent(hash.slice(1)) };
}

const passwordFlags = '--password-stdin or --token-stdin';

function askPassword(prompt: string, options: LoginOptions): Promise<string> {
  return options.passwordStdin ? readInput().then((text) => text.replace(/\r?\n$/, '')) : ask(prompt, passwordFlags);
}

export function logoutCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('logout').argument('[url]', 'The server; the one signed in to unless given.');
  return command.action(async (given: string | undefined) => {
    const session = sessionOf(command);
    const url = plainUrl(given ?? session.url);
    const entry = readCredentials().servers[url];
    if (!entry) throw new UsageError(`You are not signed in to ${url}.`, 'See where you are with `stellwerk me get`.');
    const client = createClient({ url, token: entry.token, caBundle: readCaBundle(entry.caBundle), retries: 0 });
    const revoked = await client.signIns.delete().then(
      () => true,
      () => false,
    );
    forgetSignIn(url);
    const note = revoked
      ? ''
      : ' The server could not be told; the token stays good there until it expires or is revoked.';
    if (session.json) return printJson({ url, revoked });
    line(`Signed out of ${url}.${note}`);
  });
}
