// Every verb of Stellwerk, by noun: types the server, the SDKs and the CLI, and gives /openapi.json.

import type { z } from 'zod';
import { accessVerbs } from './access.ts';
import { activityVerbs } from './activity.ts';
import { blobVerbs } from './blob.ts';
import { computeVerbs } from './compute.ts';
import { datastoreVerbs } from './datastore.ts';
import { experimentVerbs } from './experiment.ts';
import { imageVerbs } from './image.ts';
import { modelVerbs } from './model.ts';
import { runVerbs } from './run.ts';
import { sessionVerbs } from './run-session.ts';
import { secretVerbs } from './secret.ts';
import { serverVerbs } from './server.ts';
import { snapshotVerbs } from './snapshot.ts';
import { telemetryVerbs } from './telemetry.ts';
import { trashVerbs } from './trash.ts';
import type { Verb } from './verb.ts';
import { webServiceVerbs } from './web-service.ts';
import { workspaceVerbs } from './workspace.ts';

export const verbs = {
  ...serverVerbs,
  ...accessVerbs,
  ...workspaceVerbs,
  ...activityVerbs,
  ...computeVerbs,
  ...snapshotVerbs,
  ...blobVerbs,
  ...datastoreVerbs,
  ...experimentVerbs,
  ...runVerbs,
  ...sessionVerbs,
  ...telemetryVerbs,
  ...modelVerbs,
  ...imageVerbs,
  ...webServiceVerbs,
  ...trashVerbs,
  ...secretVerbs,
};

export type Verbs = typeof verbs;
export type Noun = keyof Verbs;
export type VerbOf<N extends Noun> = keyof Verbs[N] & string;
/** What a caller gives. */
export type InputOf<N extends Noun, V extends VerbOf<N>> = Verbs[N][V] extends Verb<infer I> ? z.input<I> : never;
/** What the server gets: checked, with defaults. */
export type CheckedOf<N extends Noun, V extends VerbOf<N>> = Verbs[N][V] extends Verb<infer I> ? z.output<I> : never;
export type OutputOf<N extends Noun, V extends VerbOf<N>> =
  Verbs[N][V] extends Verb<infer _, infer O> ? z.output<O> : never;

/** `runs.submit` and so on: the name that the route, the permission, the docs and the audit log share. */
export function eachVerb(): { name: string; noun: Noun; verb: string; declaration: Verb }[] {
  return Object.entries(verbs).flatMap(([noun, table]) =>
    Object.entries(table).map(([verb, declaration]) => ({
      name: `${noun}.${verb}`,
      noun: noun as Noun,
      verb,
      declaration: declaration as Verb,
    })),
  );
}
export const apiPrefix = '/api/v1';
