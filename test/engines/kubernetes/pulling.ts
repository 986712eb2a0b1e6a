// Whether somebody's own pod gets an image: a node asks its registry for it anew, with what the pod names.
import { setTimeout as pause } from 'node:timers/promises';
import type { Administrator } from './api.ts';

interface Pulling {
  namespace: string;
  image: string;
  /** A Secret of that namespace. */
  secret?: string;
}

interface Pod {
  status: { containerStatuses?: { state: { waiting?: { reason?: string; message?: string }; terminated?: object } }[] };
}

const within = { tries: 600, everyMs: 200 };

/** Undefined if it was pulled. */
export async function whyNotPulled(
  api: Administrator,
  { namespace, image, secret }: Pulling,
): Promise<string | undefined> {
  const pods = `/api/v1/namespaces/${namespace}/pods`;
  const container = { name: 'it', image, imagePullPolicy: 'Always', command: ['python3', '-c', ''] };
  const spec = { restartPolicy: 'Never', containers: [container], imagePullSecrets: secret ? [{ name: secret }] : [] };
  // A namespace that was just made has no account for pods for a moment.
  await first(async () => (await api.ask('POST', pods, { metadata: { name: 'puller' }, spec })).status === 201);
  try {
    return await first(async () => {
      const { body } = await api.ask<Pod>('GET', `${pods}/puller`);
      const state = body.status.containerStatuses?.[0]?.state;
      if (state?.terminated) return { why: undefined };
      const { reason, message } = state?.waiting ?? {};
      return /^(Err)?Image/.test(reason ?? '') && { why: `${reason} ${message}` };
    }).then(({ why }) => why);
  } finally {
    await api.ask('DELETE', `${pods}/puller?gracePeriodSeconds=0`);
    await first(async () => (await api.ask('GET', `${pods}/puller`)).status === 404);
  }
}

async function first<T>(look: () => Promise<T | false | undefined>): Promise<T> {
  for (let tried = 0; tried < within.tries; tried++) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await pause(within.everyMs);
  }
  throw new Error('The pod neither got its image nor was refused it.');
}
