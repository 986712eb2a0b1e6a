// Every attack that we know of, with its guard and its test, by what is attacked; and those for which there is nothing to attack yet.
// `docs/attacks.md` is made of it.
import { addressGuards, indirectionGuards } from './addresses.ts';
import { archiveGuards } from './archives.ts';
import { browserGuards } from './browser.ts';
import type { Guard } from './guard.ts';
import { deserialisationGuards, injectionGuards } from './injection.ts';
import { limitGuards } from './limits.ts';
import { pathGuards } from './paths.ts';
import { registryGuards } from './registry.ts';
import { secretGuards } from './secrets.ts';
import { servingGuards } from './serving.ts';
import { signInGuards } from './sign-in.ts';
import { supplyGuards } from './supply.ts';

export const attacks: Record<string, readonly Guard[]> = {
  Paths: pathGuards,
  Archives: archiveGuards,
  'Addresses that users name': addressGuards,
  Indirection: indirectionGuards,
  Injection: injectionGuards,
  Deserialisation: deserialisationGuards,
  'Sign-in and rights': signInGuards,
  'Browsers: scripts, forms, frames, names': browserGuards,
  'Web services': servingGuards,
  'Images that are pulled': registryGuards,
  'Denial of service': limitGuards,
  'Secrets and processes': secretGuards,
  'Supply chain': supplyGuards,
};

/** What Stellwerk does not have, or does in a way that leaves nothing to take away; then with the test that would see it change. */
export const nothingToAttack: Record<string, string> = {
  'links in an uploaded snapshot or model':
    'both are lists of paths and contents; archives bring files only (see Archives)',
  'zip: `../`, absolute names':
    'yauzl refuses them, and the listing too (see Archives): `server/src/snapshot/snapshots.test.ts`',
  'archives within archives': 'none is unpacked',
  'duplicate names in an image layer':
    'the last one counts, as everywhere; written by its number, not its name: `server/src/oci/unpack.test.ts`',
  'a link in an image layer that leads a write out':
    'the tree is worked out in memory, and contents are written under numbers: `server/src/oci/hostile-layers.test.ts`',
  'answers of other services read through a registry’s address':
    'no word of an answer is repeated: `server/src/oci/registry-client.test.ts`',
  'webhooks, e-mail, git remotes, datastores of other machines': 'not there: the server connects to none',
  'a model version that points to another one, or to a path of the server': 'a version is its own contents, by digest',
  'channels of conda at private addresses':
    'conda fetches them under the run’s own Unix user, and reaches what the run’s script may reach anyway',
  'an open proxy for artifacts': 'the server gives out only what it stores',
  'line breaks in a Dockerfile': 'there is none: images are put together from layers',
  cron: 'not there',
  'formulas in a CSV export': 'nothing is exported as CSV',
  'YAML aliases that multiply, tags (server, command line)':
    'the server reads nodes and knows no aliases; `yaml` counts them: the two `hostile-files.engine.test.ts`',
  'pickles, `eval`, modules by an uploaded name, in the server':
    'it has no reader of pickles; `npm run check` refuses `eval`; a model is only loaded in its service’s own box',
  'compressed bodies that unpack without end': 'a request’s body is never unpacked: `Content-Encoding` is not known',
  'floods by WebSocket or multipart': 'there is neither',
  'senders that are slow for ever':
    'node’s own limits of time, with ours; without them the test would only wait: the two `slow.engine.test.ts`',
  'orders for runners and edge devices from others than their server':
    'nothing listens on a machine of runs: a runner asks its server, and is started by it',
  'what is fetched when the server starts, or looks for updates': 'nothing is, and nothing does',
  'markdown, names, log lines and metric names shown in the portal':
    'there is no portal yet: the pages of the server show nothing of users',
  'cookies of ours, CORS with credentials':
    'nothing sets a cookie or allows an origin: `server/src/http/server.test.ts`',
  'forged tokens (`alg=none`, `kid`, audience)':
    'tokens are random and looked up by their hash; there is nothing in them',
  'a default password, a token in an address':
    'there is no password until one is set; a code stands behind `#`, and no address takes a token: `server/src/access/sign-ins.test.ts`',
  'keys and tokens compared in a time that tells of them':
    'tokens are looked up by hash, keys compared with `timingSafeEqual`; a test of time would prove nothing',
  'CORS headers of a model’s answer':
    'passed on as its author wants; a caller needs the key, which no browser keeps, unless whoever deployed it asked for none',
  'a registry that others push to, edge devices': 'not there yet',
  'a download that is carried out': 'the SDKs write files, and neither load nor start any',
};
