// The registry that container programs pull this server's images from, as OCI's distribution specification has it; its read side. Who
// is signed in by name and token gets a token that is good for minutes, for the repositories that it was asked for and may be read.
// Invariants: what is pulled is told by a digest of an image of that repository, so one workspace's layers are not to be had through
// another; each request asks anew whether the user still may, so that revoking works at once.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import * as z from 'zod';
import type { UserCaller } from '../access/access.ts';
import type { Authenticator } from '../access/authenticator.ts';
import type { Bytes, Digest } from '../blob/bytes.ts';
import { type Download, downloadOf } from '../blob/download.ts';
import { isDigest } from '../oci/digest.ts';
import { mediaTypes } from '../oci/manifest.ts';
import type { Workspaces } from '../workspace/workspaces.ts';
import { imageOf, locationOf, repositoryOf } from './repository-name.ts';

/** The built images of workspaces, as this room sees them: images lie above it. */
export interface Shelf {
  /** Names of those that can be pulled, in their order, after one of them. */
  names(workspace: string, after: string | undefined, limit: number): Promise<string[]>;
  /** In the order of their digits as letters. */
  versions(workspace: string, name: string, after: string | undefined, limit: number): Promise<string[]>;
  manifestOf(workspace: string, name: string, version: number | 'latest'): Promise<Digest | undefined>;
  /** Whether some version of this image has this manifest. */
  hasManifest(workspace: string, name: string, digest: Digest): Promise<boolean>;
  /** Whether some version of this image consists of this among others. */
  hasPart(workspace: string, name: string, digest: Digest): Promise<boolean>;
}

export interface RegistryNeeds {
  images: { bytes: Bytes; shelf: Shelf };
  access: { authenticator: Authenticator };
  workspaces: Pick<Workspaces, 'nameOf' | 'namesSeenBy'>;
  sealing: { seal(secret: string, place: string): string; unseal(sealed: string, place: string): string };
  now(): number;
  /** Where users reach the server. */
  url(): string;
}

export interface Repository {
  workspace: string;
  /** As it stands in the address. */
  image: string;
}

export type Pulled = Download & { digest: Digest };

/** What its answers are marked with. */
export const headers = { digest: 'docker-content-digest', version: 'docker-distribution-api-version' } as const;
export const tokenSeconds = 300;
const latest = 'latest';
/** A token names these, so that it fits into a header. */
const scopesAtOnce = 20;
const place = 'registry-token';
const claims = z.object({ token: z.string(), scopes: z.array(z.string()), until: z.number() });
type Claims = z.infer<typeof claims>;
const pullScope = /^repository:([a-z0-9-]{2,32})\/([a-z0-9._-]{1,1100}):([a-z,*]{1,100})$/;

export class Registry {
  readonly #needs: RegistryNeeds;

  constructor(needs: RegistryNeeds) {
    this.#needs = needs;
  }

  /** What a container program is told to pull; undefined where the name is longer than they take. */
  locationOf(workspace: string, image: string, version: number): string | undefined {
    return locationOf(new URL(this.#needs.url()).host, workspace, image, version);
  }

  /** Of what is asked for, the token is good for what this user may read; for the rest it is silently not. */
  async signIn(
    user: string,
    password: string,
    scopes: readonly string[],
  ): Promise<{ token: string; issuedAt: string }> {
    const caller = await this.#needs.access.authenticator.callerOf(password);
    if (caller.kind !== 'user' || caller.user !== user)
      throw new ServiceError('unauthenticated', 'access.token-invalid', 'This is no token of that user.');
    const good: string[] = [];
    for (const scope of [...new Set(scopes)].slice(0, scopesAtOnce)) {
      const [, workspace, image, actions] = pullScope.exec(scope) ?? [];
      if (scope !== 'registry:catalog:*' && !/\bpull\b|\*/.test(actions ?? '')) continue;
      if (workspace === undefined) good.push('catalog');
      else if (await this.#mayRead(caller, workspace)) good.push(`${workspace}/${image}`);
    }
    const now = this.#needs.now();
    const claimed: Claims = { token: caller.tokenId, scopes: good, until: now + tokenSeconds * 1_000 };
    return {
      token: this.#needs.sealing.seal(JSON.stringify(claimed), place),
      issuedAt: new Date(now).toISOString(),
    };
  }

  /** Whose token it is, if it is good, now, for a repository (or the list of them, or for nothing more than being signed in). */
  async admit(token: string | undefined, scope: Repository | 'catalog' | undefined): Promise<UserCaller> {
    if (token === undefined)
      throw new ServiceError('unauthenticated', 'access.sign-in-needed', 'This needs a sign-in.');
    const claimed = this.#opened(token);
    if (!claimed || claimed.until <= this.#needs.now()) throw invalidToken();
    const caller = await this.#needs.access.authenticator.callerWith(claimed.token);
    if (scope === undefined) return caller;
    const asked = scope === 'catalog' ? scope : `${scope.workspace}/${scope.image}`;
    const mayStill = scope === 'catalog' || (await this.#mayRead(caller, scope.workspace));
    if (!mayStill || !claimed.scopes.includes(asked))
      throw new ServiceError('unauthenticated', 'access.denied', `The token is not good for ${asked}.`);
    return caller;
  }

  /** Repositories that hold something, of all workspaces that the caller sees. `after` is one of them. */
  async catalog(caller: UserCaller, after: string | undefined, limit: number): Promise<string[]> {
    const [lastWorkspace, lastImage] = after?.split('/') ?? [];
    const found: string[] = [];
    const add = async (workspace: string, image?: string) => {
      const names = await this.#needs.images.shelf.names(workspace, image, limit - found.length);
      found.push(...names.map((name) => `${workspace.toLowerCase()}/${repositoryOf(name)}`));
    };
    if (lastWorkspace !== undefined && (await this.#mayRead(caller, lastWorkspace)))
      await add(lastWorkspace, imageOf(lastImage ?? ''));
    for await (const workspace of this.#workspacesOf(caller, lastWorkspace)) {
      if (found.length >= limit) break;
      await add(workspace);
    }
    return found;
  }

  /** In the order of their letters, as the specification has it; `latest` is the last. */
  async tags(repository: Repository, after: string | undefined, limit: number): Promise<string[]> {
    const { workspace, name } = await this.#image(repository);
    const { shelf } = this.#needs.images;
    if ((await shelf.manifestOf(workspace, name, 'latest')) === undefined) throw noSuchImage(repository);
    const versions = await shelf.versions(workspace, name, after, limit);
    return versions.length < limit && after !== latest ? [...versions, latest] : versions;
  }

  /** By version, `latest`, or digest. */
  async manifest(repository: Repository, reference: string): Promise<Pulled> {
    const { workspace, name } = await this.#image(repository);
    const digest = await this.#manifestOf(workspace, name, reference);
    if (digest !== undefined) return this.#pulled(digest, mediaTypes.manifest, undefined);
    const what = `${repository.workspace}/${repository.image}`;
    throw new ServiceError('not-found', 'image.not-found', `${what} has no manifest ${reference.slice(0, 200)}.`);
  }

  async blob(repository: Repository, digest: string, range: string | undefined): Promise<Pulled> {
    const { workspace, name } = await this.#image(repository);
    if (!isDigest(digest))
      throw new ServiceError('invalid-argument', 'request.invalid', 'A digest is `sha256:` and 64 hexadecimal digits.');
    if (await this.#needs.images.shelf.hasPart(workspace, name, digest))
      return this.#pulled(digest, 'application/octet-stream', range);
    const what = `${repository.workspace}/${repository.image}`;
    throw new ServiceError('not-found', 'blob.not-found', `${what} does not consist of ${digest}.`);
  }

  async #manifestOf(workspace: string, name: string, reference: string): Promise<Digest | undefined> {
    const { shelf } = this.#needs.images;
    if (isDigest(reference)) return (await shelf.hasManifest(workspace, name, reference)) ? reference : undefined;
    if (reference === latest) return shelf.manifestOf(workspace, name, latest);
    if (!/^[1-9]\d{0,14}$/.test(reference)) return undefined;
    return shelf.manifestOf(workspace, name, Number(reference));
  }

  async #pulled(digest: Digest, contentType: string, range: string | undefined): Promise<Pulled> {
    const { bytes } = this.#needs.images;
    const sizeBytes = await bytes.sizeOf(digest);
    const download = downloadOf({ sizeBytes, contentType, etag: digest }, { range }, (part) =>
      bytes.read(digest, part),
    );
    return { ...download, digest };
  }

  async #image(repository: Repository): Promise<{ workspace: string; name: string }> {
    const workspace = await this.#needs.workspaces.nameOf(repository.workspace);
    const name = imageOf(repository.image);
    if (workspace === undefined || name === undefined) throw noSuchImage(repository);
    return { workspace, name };
  }

  async *#workspacesOf(caller: UserCaller, after: string | undefined): AsyncGenerator<string> {
    const page = 100;
    for (let from = after, isMore = true; isMore; ) {
      const some = await this.#needs.workspaces.namesSeenBy(caller, from, page);
      yield* some;
      from = some.at(-1);
      isMore = some.length === page;
    }
  }

  async #mayRead(caller: UserCaller, workspace: string): Promise<boolean> {
    const named = await this.#needs.workspaces.nameOf(workspace);
    return named !== undefined && (await this.#needs.access.authenticator.roleIn(caller, named)) !== undefined;
  }

  #opened(token: string): Claims | undefined {
    try {
      return claims.parse(JSON.parse(this.#needs.sealing.unseal(token, place)));
    } catch {
      return undefined; // made up, changed, or of a key that was replaced
    }
  }
}

function invalidToken(): ServiceError {
  return new ServiceError('unauthenticated', 'access.token-invalid', 'The token is not valid.');
}

function noSuchImage({ workspace, image }: Repository): ServiceError {
  return new ServiceError('not-found', 'image.not-found', `There is no image ${workspace}/${image}.`);
}
