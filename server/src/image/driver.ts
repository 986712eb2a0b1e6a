// What a kind of image can do: be built from models, a scoring script and what they need. Nothing else.
// A driver never touches the database and never retries; what the world refused it throws as TargetError, what the user gave wrong as ServiceError.

import type { Readable } from 'node:stream';
import type { BuiltSpecification } from '@stellwerk/contract/environment.ts';
import type { Image } from '@stellwerk/contract/image.ts';
import type { Digest } from '../blob/bytes.ts';

export type ImageKind = Image['kind'];

export interface RecipeFile {
  path: string;
  digest: Digest;
  executable?: boolean | undefined;
}

/** All that decides what an image is: the same recipe gives the same digest. */
export interface ImageRecipe {
  models: readonly { name: string; version: number; files: readonly RecipeFile[] }[];
  /** The scoring script and extra files. */
  files: readonly RecipeFile[];
  scoringScript: string;
  /** Absent: the base's own packages and no others. */
  environment?: BuiltSpecification;
  base: ImageBase;
  environmentVariables: Readonly<Record<string, string>>;
}

/** A file is one of this machine that the caller may read. */
export type ImageBase = { from: 'default' } | { from: 'registry'; reference: string } | { from: 'file'; path: string };

export interface BuiltImage {
  digest: Digest;
  /** All that the image consists of, itself included. */
  parts: Digest[];
  sizeBytes: number;
  base: string;
  environment: { lockHash?: string; python: string; notices: string[] };
}

export interface Watch {
  log(line: string): void;
  signal: AbortSignal;
}

/** What a host needs to start a replica of an image. */
export interface ReplicaTemplate {
  rootPath: string;
  command: readonly string[];
  env: Readonly<Record<string, string>>;
  workdir: string;
}

export interface ImageDriver<K extends ImageKind> {
  readonly kind: K;
  build(recipe: ImageRecipe, watch: Watch): Promise<BuiltImage>;
  /** As one archive, compressed. */
  export(digest: Digest, options: { format: 'oci' | 'docker'; name: string; signal: AbortSignal }): Promise<Readable>;
  /** Unpacks it once and says how to run it. */
  unpack(digest: Digest, signal?: AbortSignal): Promise<ReplicaTemplate>;
}
