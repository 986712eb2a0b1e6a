// Containers as this service makes them: by name, so that making one again finds it; with what they may take; and those that run one program and
// are gone after it.
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { LayerEntry } from '../../../oci/layer-entry.ts';
import { writeTar } from '../../../oci/tar-write.ts';
import { type Engine, EngineRefusal } from './engine.ts';
import { demultiplexed, outputOf } from './output.ts';

export interface Wanted {
  name: string;
  /** By its id. */
  image: string;
  words: readonly string[];
  env?: readonly string[];
  labels: Readonly<Record<string, string>>;
  /** Where each volume is mounted. */
  volumes?: Readonly<Record<string, string>>;
  limits?: Limits;
}

export interface Limits {
  cpus?: number | undefined;
  memoryBytes?: number | undefined;
  /** By their UUIDs. */
  gpus?: readonly string[] | undefined;
}

export interface Inspected {
  Image: string;
  State: { Status: string; Running: boolean; OOMKilled: boolean; ExitCode: number; Error: string };
}

export interface OnceEnded {
  code: number;
  stdout: string;
  stderr: string;
}

/** So many processes and threads: a script that forks without end does not take the machine with it. */
const mostProcesses = 16_384;
/** What workers of data loaders exchange lies there; it counts as memory of the container. */
const sharedMemoryBytes = 2 ** 31;
const endsWithinMs = 30_000;
const endsSoonWithinMs = 3_000;

/** Made, unless there is one of that name. */
export async function makeContainer(engine: Engine, wanted: Wanted): Promise<void> {
  const { name, image, words, env = [], labels, volumes = {}, limits = {} } = wanted;
  await engine.tell({
    method: 'POST',
    path: '/containers/create',
    query: { name },
    also: [409],
    body: {
      Image: image,
      Entrypoint: [],
      Cmd: words,
      Env: env,
      Labels: labels,
      User: '0:0',
      WorkingDir: '/',
      HostConfig: {
        ...taken(limits),
        Mounts: Object.entries(volumes).map(([Source, Target]) => ({ Type: 'volume', Source, Target })),
        Init: true,
        CapDrop: ['ALL'],
        // Whose files are whose is no matter within its own root.
        CapAdd: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'],
        SecurityOpt: ['no-new-privileges'],
        PidsLimit: mostProcesses,
        ShmSize: sharedMemoryBytes,
        LogConfig: { Type: 'json-file', Config: { 'max-size': '8m' } },
      },
    },
  });
}

function taken({ cpus, memoryBytes, gpus = [] }: Limits): object {
  return {
    ...(cpus !== undefined && { NanoCpus: Math.round(cpus * 1e9) }),
    ...(memoryBytes !== undefined && { Memory: memoryBytes, MemorySwap: memoryBytes }),
    ...(gpus.length > 0 && { DeviceRequests: [{ DeviceIDs: gpus, Capabilities: [['gpu']] }] }),
  };
}

export async function inspected(engine: Engine, name: string): Promise<Inspected | undefined> {
  try {
    return await engine.ask<Inspected>({ path: `/containers/${name}/json` });
  } catch (error) {
    if (error instanceof EngineRefusal && error.status === 404) return undefined;
    throw error;
  }
}

/** Below the root of the container, whose volumes are mounted for it. */
export async function putInto(engine: Engine, name: string, entries: Iterable<LayerEntry>): Promise<void> {
  const body = writeTar(entries);
  await engine.tell({ method: 'PUT', path: `/containers/${name}/archive`, query: { path: '/' }, body });
}

export async function startContainer(engine: Engine, name: string): Promise<void> {
  await engine.tell({ method: 'POST', path: `/containers/${name}/start` });
}

/** One that is gone or has ended hears nothing. */
export async function signalContainer(engine: Engine, name: string, signal: string): Promise<void> {
  await engine.tell({ method: 'POST', path: `/containers/${name}/kill`, query: { signal }, also: [404, 409] });
}

/** At once, with all its processes; returns when none is left. */
export async function killContainer(engine: Engine, name: string): Promise<void> {
  await signalContainer(engine, name, 'SIGKILL');
  await ended(engine, name, endsWithinMs);
}

export async function removeContainer(engine: Engine, name: string): Promise<void> {
  const query = { force: true, v: true };
  const status = await engine.tell({ method: 'DELETE', path: `/containers/${name}`, query, also: [404, 409] });
  if (status !== 409) return;
  // It is being removed already.
  await engine.tell({ method: 'POST', path: `/containers/${name}/wait`, query: { condition: 'removed' }, also: [404] });
}

/** One in use stays: that is an `EngineRefusal`. */
export async function removeVolume(engine: Engine, name: string): Promise<void> {
  await engine.tell({ method: 'DELETE', path: `/volumes/${name}`, query: { force: true }, also: [404] });
}

/** The exit code; undefined if there is none of that name. */
async function ended(
  engine: Engine,
  name: string,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<number | undefined> {
  const path = `/containers/${name}/wait`;
  const query = { condition: 'not-running' };
  try {
    const waiting = { method: 'POST' as const, path, query, timeoutMs, ...(signal && { signal }) };
    return (await engine.ask<{ StatusCode: number }>(waiting)).StatusCode;
  } catch (error) {
    if (error instanceof EngineRefusal && error.status === 404) return undefined;
    throw error;
  }
}

/** A container whose first process has ended is there for a moment more, and takes no others. */
export async function endsSoon(engine: Engine, name: string): Promise<boolean> {
  return ended(engine, name, endsSoonWithinMs).then(
    () => true,
    () => false,
  );
}

/** What a container printed, the end of it. */
export async function printedBy(engine: Engine, name: string): Promise<{ stdout: string; stderr: string }> {
  const query = { stdout: true, stderr: true, tail: 1_000 };
  return outputOf(await engine.bytes({ path: `/containers/${name}/logs`, query }));
}

/** A program in a container of its own, to its end; the container is gone after it. `beside` is done once it runs. */
export async function runOnce(
  engine: Engine,
  wanted: Wanted,
  {
    files = [],
    beside,
    timeoutMs = 60_000,
  }: { files?: LayerEntry[]; beside?: () => Promise<void>; timeoutMs?: number } = {},
): Promise<OnceEnded> {
  await removeContainer(engine, wanted.name);
  try {
    await makeContainer(engine, wanted);
    if (files.length > 0) await putInto(engine, wanted.name, files);
    await startContainer(engine, wanted.name);
    await beside?.();
    const code = await ended(engine, wanted.name, timeoutMs);
    if (code === undefined) throw new TargetError('later', `A container on ${engine.name} was removed before its end.`);
    return { code, ...(await printedBy(engine, wanted.name)) };
  } finally {
    await removeContainer(engine, wanted.name).catch(() => {}); // the next one of the name removes it
  }
}

/** A program in a container that runs already, with its input and output. */
export async function programIn(
  engine: Engine,
  name: string,
  words: readonly string[],
): Promise<ReturnType<typeof demultiplexed>> {
  const { Id } = await engine.ask<{ Id: string }>({
    method: 'POST',
    path: `/containers/${name}/exec`,
    body: { AttachStdin: true, AttachStdout: true, AttachStderr: true, Cmd: words },
  });
  const stream: Duplex = await engine.hijacked(`/exec/${Id}/start`, { Detach: false, Tty: false });
  return demultiplexed(stream);
}
