// Whether a namespace of a cluster can be used, and what to do if not: each step is tried, in the order in which they build on each other.
import type { Probe } from '@stellwerk/contract/compute.ts';
import type { PublicAddress, Target } from '../../driver.ts';
import { type Api, Refusal } from './api.ts';
import type { JobsNeeds } from './jobs.ts';
import { askedServer, type Look, lookInto, platformFrom, wordsOf } from './looking.ts';
import { nodesFor } from './nodes.ts';
import { relayLink } from './places.ts';

type Finding = Probe['findings'][number];

interface Right {
  group: string;
  resource: string;
  subresource?: string;
  verbs: string[];
}

const rights: Right[] = [
  { group: 'batch', resource: 'jobs', verbs: ['create', 'get', 'patch', 'delete'] },
  { group: '', resource: 'secrets', verbs: ['create', 'delete'] },
  { group: '', resource: 'pods', verbs: ['list', 'delete'] },
  // A WebSocket is asked for with GET; newer clusters want both.
  { group: '', resource: 'pods', subresource: 'exec', verbs: ['get', 'create'] },
  { group: '', resource: 'events', verbs: ['list'] },
];

export async function probed(target: Target<'kubernetes'>, needs: JobsNeeds): Promise<Finding[]> {
  const api = await needs.apiOf(target).catch((error: Error) => error);
  if (!('ask' in api)) return [found('kubeconfig', false, api.message)];
  const findings: Finding[] = [];
  for (const find of [address, namespace, rightsThere, nodes]) {
    const finding = await find(api, target).catch((error: Error) => failed(error));
    findings.push(finding);
    if (!finding.ok) return findings;
  }
  return [...findings, ...(await inPod(target, needs))];
}

async function address(api: Api): Promise<Finding> {
  const hint =
    'See that the address in the kubeconfig is reached from this server, and that its certificate authority is that of the cluster.';
  try {
    const { gitVersion } = await api.ask<{ gitVersion: string }>({ path: '/version' });
    return found('address', true, `Kubernetes ${gitVersion} answers at ${api.access.url.host}.`);
  } catch (error) {
    if (error instanceof Refusal && error.status === 401)
      return found(
        'sign-in',
        false,
        'The cluster refused the sign-in.',
        'Put a kubeconfig that is valid into the secret.',
      );
    return found('address', false, (error as Error).message, hint);
  }
}

async function namespace(api: Api, { settings }: Target<'kubernetes'>): Promise<Finding> {
  const { namespace: name } = settings;
  try {
    const there = await api.find({ path: `/api/v1/namespaces/${name}` });
    if (there) return found('namespace', true, `The namespace ${name} is there.`);
    const hint = `Make it (\`kubectl create namespace ${name}\`), or name another one.`;
    return found('namespace', false, `There is no namespace ${name}.`, hint);
  } catch (error) {
    if (error instanceof Refusal && error.status === 401)
      return found(
        'sign-in',
        false,
        'The cluster refused the sign-in.',
        'Put a kubeconfig that is valid into the secret.',
      );
    if (error instanceof Refusal && error.status === 403)
      return found('namespace', true, `Whether the namespace ${name} is there may not be seen with this sign-in.`);
    throw error;
  }
}

async function rightsThere(api: Api, { settings }: Target<'kubernetes'>): Promise<Finding> {
  const missing: string[] = [];
  for (const { group, resource, subresource, verbs } of rights)
    for (const verb of verbs) {
      const resourceAttributes = {
        namespace: settings.namespace,
        verb,
        group,
        resource,
        ...(subresource && { subresource }),
      };
      const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
      const body = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes },
      };
      const { status } = await api.ask<{ status: { allowed: boolean } }>({ method: 'POST', path, body });
      if (!status.allowed) missing.push(`${verb} ${subresource ? `${resource}/${subresource}` : resource}`);
    }
  if (missing.length === 0)
    return found('rights', true, 'It may make and remove Jobs and Secrets, and start programs in pods.');
  const hint = `Bind a Role of the namespace ${settings.namespace} with these to the account of the kubeconfig.`;
  return found('rights', false, `The sign-in may not ${missing.join(', ')}.`, hint);
}

async function nodes(api: Api, { settings }: Target<'kubernetes'>): Promise<Finding> {
  const there = await nodesFor(api, settings);
  if (!there)
    return found(
      'nodes',
      true,
      'Its nodes may not be seen with this sign-in: what none of them can give is waited for.',
    );
  if (there.length > 0)
    return found('nodes', true, `${there.length} ${there.length === 1 ? 'node' : 'nodes'} may get runs.`);
  return found(
    'nodes',
    false,
    'No node has the labels of nodeSelector.',
    'Label nodes with them, or change nodeSelector.',
  );
}

async function inPod(target: Target<'kubernetes'>, needs: JobsNeeds): Promise<Finding[]> {
  const { image } = target.settings;
  try {
    return await lookInto(needs, target, {}, async (look) => {
      const findings = [found('image', true, `A pod of the image ${image} begins.`), await pythonIn(look, image)];
      if (findings.every(({ ok }) => ok))
        findings.push(await (target.settings.reach === 'direct' ? directWay(look, needs) : wayBack(look)));
      return findings;
    });
  } catch (error) {
    const { message } = error as Error;
    if (message.includes('python3'))
      return [
        found(
          'python',
          false,
          message,
          'Name an image with Python 3.8 or newer as `python3`, such as `python:3.13-slim`.',
        ),
      ];
    const isImage = /image/i.test(message);
    const hint = isImage
      ? 'See that the name of the image is right and nodes reach its registry; name what it is pulled with by pullSecret, or registryUser and registryPassword.'
      : 'See what `kubectl describe` says of pods in the namespace.';
    return [found(isImage ? 'image' : 'pods', false, message, hint)];
  }
}

async function pythonIn(look: Look, image: string): Promise<Finding> {
  await platformFrom(look, image);
  return found('python', true, `The image ${image} has a Python that runs the runner.`);
}

/** Laid, used and taken away. */
async function wayBack(look: Look): Promise<Finding> {
  await look.layWay();
  const said = await askedServer(look, `unix:${relayLink}`);
  if (said.code === 0)
    return found('way back', true, 'What runs there reaches this server through the connection to the cluster.');
  const hint = 'See that nothing between here and the cluster cuts WebSockets, such as a proxy.';
  return found('way back', false, `What runs there does not reach this server: ${wordsOf(said)}.`, hint);
}

async function directWay(look: Look, { publicUrl, caBundle }: PublicAddress): Promise<Finding> {
  const url = publicUrl();
  const said = await askedServer(look, url, caBundle);
  if (said.code === 0) return found('way back', true, `What runs there reaches this server at ${url}.`);
  const hint =
    'Give the server a public address that pods reach (--public-url), or let the target have reach `carried`.';
  return found('way back', false, `What runs there does not reach this server at ${url}: ${wordsOf(said)}.`, hint);
}

function failed(error: Error): Finding {
  return found('cluster', false, error.message, 'See what the API server of the cluster writes to its log.');
}

function found(what: string, ok: boolean, detail: string, hint?: string): Finding {
  return { what, ok, detail: `${detail.replace(/[.\s]+$/, '')}.`, ...(hint !== undefined && { hint }) };
}
