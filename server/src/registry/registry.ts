// The registry that container programs pull this server's images from, as OCI's distribution specification has it; its read side. Who
// is signed in by name and token gets a token that is good for minutes, for the repositories that it was asked for and may be read. What was
// made for a run is pulled with a sign-in of that run's own.
// Invariants: what is pulled is told by a digest of an image of that repository, so one workspace's layers are not to be had through
// another; each request asks anew whether the user still may, so that revoking works at once.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import * as z from 'zod';
import type { SignedInCaller, UserCaller } from '../access/access.ts';
import type { Authenticator } from '../access/authenticator.ts';
import type { Bytes, Digest } from '../blob/bytes.ts';
import { type Download, downloadOf } from '../blob/download.ts';
import { isDigest } from '../oci/digest.ts';
import { type ImageParts, mediaTypes } from '../oci/manifest.ts';
import type { Workspaces } from '../workspace/workspaces.ts';
import { imageOf, locationOf, repositoryOf } from './repository-name.ts';
import { madeIn, type RunPull, type RunPullNeeds, RunPulls, repositoryOfMade, runPull } from './run-pulls.ts';

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
  images: { bytes: Bytes; shelf: Shelf; partsOf(digest: Digest): Promise<ImageParts> };
  access: { authenticator: Authenticator; isRunOn: RunPullNeeds['isOn'] };
  workspaces: Pick<Workspaces, 'nameOf' | 'namesSeenBy'>;
  sealing: RunPullNeeds['sealing'];
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
/** By the id of a user's token, or for a run. */
const holder = z.union([z.object({ token: z.string() }), z.object({ run: runPull })]);
const claims = z.object({ holder, scopes: z.array(z.string()), until: z.number() });
type Claims = z.infer<typeof claims>;
type Holder = UserCaller | RunPull;
const pullScope = /^repository:([a-z0-9-]{2,32})\/([a-z0-9._-]{1,1100}):([a-z,*]{1,100})$/;

export class Registry {
  readonly #needs: RegistryNeeds;
  readonly #runPulls: RunPulls;

  constructor(needs: RegistryNeeds) {
    this.#needs = needs;
    this.#runPulls = new RunPulls({ sealing: needs.sealing, isOn: needs.access.isRunOn });
  }

  /** What a container program is told to pull; undefined where the name is longer than they take. */
  locationOf(workspace: string, image: string, version: number): string | undefined {
    return locationOf(new URL(this.#needs.url()).host, workspace, image, version);
  }

  /** What is pulled for a run, and with what; undefined where engines have no name for this server. */
  pullOf(run: RunPull): { name: string; signIn: { user: string; password: string } } | undefined {
    const { host, pathname } = new URL(this.#needs.url());
    if (pathname !== '/') return undefined;
    const repository = `${host}/${run.workspace.toLowerCase()}/${repositoryOfMade(run.digest)}`;
    return { name: `${repository}@${run.digest}`, signIn: this.#runPulls.signInOf(run) };
  }

  /** Of what is asked for, the token is good for what may be read with this sign-in; for the rest it is silently not. */
  async signIn(
    user: string,
    password: string,
    scopes: readonly string[],
  ): Promise<{ token: string; issuedAt: string }> {
    const caller = (await this.#runPulls.opened(user, password)) ?? (await this.#userOf(user, password));
    const good: string[] = [];
    for (const scope of [...new Set(scopes)].slice(0, scopesAtOnce)) {
      const [, workspace, image, actions] = pullScope.exec(scope) ?? [];
      if (scope !== 'registry:catalog:*' && !/\bpull\b|\*/.test(actions ?? '')) continue;
      if (workspace === undefined) good.push('catalog');
      else if (await this.#mayRead(caller, workspace, image)) good.push(`${workspace}/${image}`);
    }
    const now = this.#needs.now();
    const holder = 'digest' in caller ? { run: caller } : { token: caller.tokenId };
    const claimed: Claims = { holder, scopes: good, until: now + tokenSeconds * 1_000 };
    return {
      token: this.#needs.sealing.seal(JSON.stringify(claimed), place),
      issuedAt: new Date(now).toISOString(),
    };
  }

  async #userOf(user: string, password: string): Promise<UserCaller> {
    const caller = await this.#needs.access.authenticator.callerOf(password);
    if (caller.kind !== 'user' || caller.user !== user)
      throw new ServiceError('unauthenticated', 'access.token-invalid', 'This is no token of that user.');
    return caller;
  }

  /** Whose token it is, if it is good, now, for a repository (or the list of them, or for nothing more than being signed in). */
  async admit(token: string | undefined, scope: Repository | 'catalog' | undefined): Promise<SignedInCaller> {
    if (token === undefined)
      throw new ServiceError('unauthenticated', 'access.sign-in-needed', 'This needs a sign-in.');
    const claimed = this.#opened(token);
    if (!claimed || claimed.until <= this.#needs.now()) throw invalidToken();
    const { holder } = claimed;
    const caller = 'run' in holder ? holder.run : await this.#needs.access.authenticator.callerWith(holder.token);
    if (scope !== undefined) await this.#requireGood(claimed, caller, scope);
    return 'digest' in caller ? { kind: 'run', ...caller } : caller;
  }

  async #requireGood({ scopes }: Claims, caller: Holder, scope: Repository | 'catalog'): Promise<void> {
    const asked = scope === 'catalog' ? scope : `${scope.workspace}/${scope.image}`;
    const mayStill = scope === 'catalog' || (await this.#mayRead(caller, scope.workspace, scope.image));
    if (!mayStill || !scopes.includes(asked))
      throw new ServiceError('unauthenticated', 'access.denied', `The token is not good for ${asked}.`);
  }

  /** Repositories that hold something, of all workspaces that the caller sees. `after` is one of them. */
  async catalog(caller: UserCaller, after: string | undefined, limit: number): Promise<string[]> {
    const [lastWorkspace, lastImage] = after?.split('/') ?? [];
    const found: string[] = [];
    const add = async (workspace: string, image?: string) => {
      const names = await this.#needs.images.shelf.names(workspace, image, limit - found.length);
      found.push(...names.map((name) => `${workspace.toLowerCase()}/${repositoryOf(name)}`));
    };
    if (lastWorkspace !== undefined && (await this.#hasRole(caller, lastWorkspace)))
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
    const digest = await this.#manifestOf(repository, reference);
    if (digest !== undefined) return this.#pulled(digest, mediaTypes.manifest, undefined);
    const what = `${repository.workspace}/${repository.image}`;
    throw new ServiceError('not-found', 'image.not-found', `${what} has no manifest ${reference.slice(0, 200)}.`);
  }

  async blob(repository: Repository, digest: string, range: string | undefined): Promise<Pulled> {
    if (!isDigest(digest))
      throw new ServiceError('invalid-argument', 'request.invalid', 'A digest is `sha256:` and 64 hexadecimal digits.');
    if (await this.#hasPart(repository, digest)) return this.#pulled(digest, 'application/octet-stream', range);
    const what = `${repository.workspace}/${repository.image}`;
    throw new ServiceError('not-found', 'blob.not-found', `${what} does not consist of ${digest}.`);
  }

  async #manifestOf(repository: Repository, reference: string): Promise<Digest | undefined> {
    const made = madeIn(repository.image);
    if (made !== undefined) return reference === made ? made : undefined;
    const { workspace, name } = await this.#image(repository);
    const { shelf } = this.#needs.images;
    if (isDigest(reference)) return (await shelf.hasManifest(workspace, name, reference)) ? reference : undefined;
    if (reference === latest) return shelf.manifestOf(workspace, name, latest);
    if (!/^[1-9]\d{0,14}$/.test(reference)) return undefined;
    return shelf.manifestOf(workspace, name, Number(reference));
  }

  async #hasPart(repository: Repository, digest: Digest): Promise<boolean> {
    const { shelf, partsOf } = this.#needs.images;
    const made = madeIn(repository.image);
    if (made !== undefined) {
      const { manifest, config, layers } = await partsOf(made);
      return [manifest, config, ...layers].includes(digest);
    }
    const { workspace, name } = await this.#image(repository);
    return shelf.hasPart(workspace, name, digest);
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

  async #mayRead(caller: Holder, workspace: string, image = ''): Promise<boolean> {
    if ('digest' in caller) return this.#runPulls.mayPull(caller, workspace, image);
    return madeIn(image) === undefined && this.#hasRole(caller, workspace);
  }

  async #hasRole(caller: UserCaller, workspace: string): Promise<boolean> {
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
