// What a command works with: the server and the workspace it is about, and the client for them.
// A token goes only to the server it was given for: one from the environment never to an address that a file in some folder names.
import { readFileSync } from 'node:fs';
import type { Client } from '@stellwerk/client/client.ts';
import { plainUrl, readCredentials } from './credentials.ts';
import { UsageError } from './failures.ts';
import { surroundings } from './surroundings.ts';
import { findWorkspaceFile, type WorkspaceFile } from './workspace-file.ts';

export interface GlobalOptions {
  url?: string;
  workspace?: string;
  json?: boolean;
}

export class Session {
  readonly options: GlobalOptions;
  private found: WorkspaceFile | null | undefined;
  private made: Promise<Client> | undefined;

  constructor(options: GlobalOptions) {
    this.options = options;
  }

  get json(): boolean {
    return this.options.json === true;
  }

  private get file(): WorkspaceFile | undefined {
    if (this.found === undefined) this.found = findWorkspaceFile() ?? null;
    return this.found ?? undefined;
  }

  get url(): string {
    const url = this.options.url ?? surroundings.url ?? this.file?.url ?? readCredentials().current;
    if (!url)
      throw new UsageError(
        'No server is known here.',
        'Sign in with `stellwerk login <url>`, or set STELLWERK_URL and STELLWERK_TOKEN.',
      );
    return plainUrl(url);
  }

  get workspace(): string {
    const workspace = this.options.workspace ?? surroundings.workspace ?? this.file?.workspace;
    if (!workspace)
      throw new UsageError(
        'No workspace is named.',
        'Give --workspace, set STELLWERK_WORKSPACE, or choose one for this folder with `stellwerk workspace use <name>`.',
      );
    return workspace;
  }

  get token(): string | undefined {
    const kept = readCredentials();
    const meant = this.options.url ?? surroundings.url ?? kept.current;
    const fromEnvironment = meant === undefined || plainUrl(meant) === this.url ? surroundings.token : undefined;
    return fromEnvironment ?? kept.servers[this.url]?.token;
  }

  get caBundleFile(): string | undefined {
    return surroundings.caBundle ?? readCredentials().servers[this.url]?.caBundle;
  }

  get caBundle(): string | undefined {
    return readCaBundle(this.caBundleFile);
  }

  client(): Promise<Client> {
    this.made ??= import('@stellwerk/client/client.ts').then(({ createClient }) =>
      createClient({ url: this.url, token: this.token, caBundle: this.caBundle, retries: 3 }),
    );
    return this.made;
  }
}

export function readCaBundle(path: string | undefined): string | undefined {
  return path === undefined ? undefined : readFileSync(path, 'utf8');
}
