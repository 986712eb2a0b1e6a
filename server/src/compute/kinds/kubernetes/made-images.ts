// Images that are made here for runs: the nodes of a cluster pull them from this server, so they have to reach it.
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { Flaw } from '../../driver.ts';
import type { Settings } from './manifest.ts';

const loopback = /^(localhost|127(\.\d+){3}|\[::1\]|\[::\]|0\.0\.0\.0)$/;
const otherwise = 'or let the environment be made at-start';

/** Why nodes could not pull it. Goes on after "the compute target x". */
export function flawsOfMade(settings: Settings, { container }: RunConfiguration, publicUrl: string): Flaw[] {
  if (container?.environment !== 'in-image') return [];
  const why = whyNot(settings, new URL(publicUrl));
  return why === undefined ? [] : [{ field: 'container.environment', why: `${why}, ${otherwise}` }];
}

function whyNot({ reach }: Settings, { hostname, pathname, origin }: URL): string | undefined {
  const pulls = 'would have its nodes pull the image from this server';
  if (reach !== 'direct') return `${pulls}, which they do not reach: let it have reach \`direct\` if they can`;
  if (loopback.test(hostname))
    return `${pulls}, whose address ${origin} leads them to themselves: start it with --public-url`;
  if (pathname !== '/')
    return `${pulls}, whose public address has the path ${pathname}, where images have none: give it a host of its own`;
  return undefined;
}
