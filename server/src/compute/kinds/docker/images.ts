// Images on an engine: found there, or pulled with what there is to sign in to their registry. Which one it was is told by its digest.
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { JobOrder, MadeImage, StartWatch } from '../../driver.ts';
import { type Engine, EngineRefusal } from './engine.ts';

export interface Image {
  /** As the engine knows it. */
  id: string;
  /** By which it is found again: of its registry, or the engine's own where it came from none. */
  digest: string;
}

interface Inspected {
  Id: string;
  RepoDigests: string[] | null;
}

type SignIn = JobOrder['imageSignIn'];

const pullsWithinMs = 3_600_000;

export async function foundImage(engine: Engine, name: string): Promise<Image | undefined> {
  try {
    const { Id, RepoDigests } = await engine.ask<Inspected>({ path: `/images/${name}/json` });
    const [repository] = name.split('@')[0]!.split(/:[^/]*$/);
    const digests = RepoDigests ?? [];
    return { id: Id, digest: digests.find((digest) => digest.startsWith(`${repository}@`)) ?? digests[0] ?? Id };
  } catch (error) {
    if (error instanceof EngineRefusal && error.status === 404) return undefined;
    throw error;
  }
}

/** Pulled if it is not there. */
export async function requiredImage(
  engine: Engine,
  name: string,
  signIn?: SignIn,
  watch: StartWatch = {},
): Promise<Image> {
  const found = await foundImage(engine, name);
  if (found) return found;
  watch.log?.(`The image ${name} is pulled.`);
  try {
    await pull(engine, name, signIn, watch);
  } catch (error) {
    if (!(error instanceof EngineRefusal)) throw error;
    throw new TargetError('never', `${notThere(engine, name)}: ${sentence(error.message)} ${howToHaveIt}`);
  }
  const pulled = await foundImage(engine, name);
  if (!pulled) throw new TargetError('later', `${notThere(engine, name)}.`);
  return pulled;
}

/** One that was made here: sent over the connection to the engine, which need not reach this server; once, as long as it is there. */
export async function loadedImage(engine: Engine, image: MadeImage, watch: StartWatch = {}): Promise<Image> {
  const name = `stellwerk/training:${image.digest.split(':')[1]!.slice(0, 32)}`;
  const found = await foundImage(engine, name);
  if (found) return { ...found, digest: image.digest };
  watch.log?.(`The image ${image.digest} is sent to the engine.`);
  const told = engine.documents({
    method: 'POST',
    path: '/images/load',
    query: { quiet: true },
    body: await image.archive(name, watch.signal),
    timeoutMs: pullsWithinMs,
    ...(watch.signal && { signal: watch.signal }),
  });
  for await (const { error } of told) if (error !== undefined) throw new EngineRefusal(500, String(error));
  const loaded = await foundImage(engine, name);
  if (!loaded)
    throw new TargetError(
      'later',
      `The image ${image.digest} did not come to be on the Docker Engine at ${engine.name}.`,
    );
  return { ...loaded, digest: image.digest };
}

/** Whether its registry has it for the engine; why not, if it has not. */
export async function flawOfMissing(
  engine: Engine,
  name: string,
): Promise<{ detail: string; hint: string } | undefined> {
  try {
    await engine.ask({ path: `/distribution/${name}/json` });
    return undefined;
  } catch (error) {
    if (!(error instanceof EngineRefusal)) throw error;
    return { detail: `${notThere(engine, name)}: ${sentence(error.message)}`, hint: howToHaveIt };
  }
}

async function pull(engine: Engine, name: string, signIn: SignIn, { signal }: StartWatch): Promise<void> {
  const isTagged = /@|:[^/]*$/.test(name);
  const told = engine.documents({
    method: 'POST',
    path: '/images/create',
    query: { fromImage: isTagged ? name : `${name}:latest` },
    headers: signIn ? { 'x-registry-auth': authOf(name, signIn) } : {},
    timeoutMs: pullsWithinMs,
    ...(signal && { signal }),
  });
  for await (const { error } of told) if (error !== undefined) throw new EngineRefusal(500, String(error));
}

function authOf(name: string, { user, password }: NonNullable<SignIn>): string {
  const [first] = name.split('/');
  const serveraddress = /[.:]|^localhost$/.test(first!) ? first : 'https://index.docker.io/v1/';
  const auth = Buffer.from(JSON.stringify({ username: user, password, serveraddress }));
  // With the padding that the engine insists on.
  return auth.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

const notThere = (engine: Engine, name: string) =>
  `The image ${name} is not on the Docker Engine at ${engine.name}, which cannot pull it`;
const howToHaveIt =
  'Pull or load it there, or let the run configuration name secrets to sign in to its registry (container.user, container.password).';
const sentence = (text: string) => `${text.trim().replace(/[.\s]+$/, '')}.`;
