// Which names this server answers to. A page of another site that makes its own name point at this machine (DNS rebinding)
// comes with that name in the Host header, and is refused.
import { hostname } from 'node:os';

export function hostCheck(listen: string, publicUrl: string | undefined): (host: string | undefined) => boolean {
  const names = new Set(['localhost', '127.0.0.1', '[::1]', listen, `[${listen}]`, hostname().toLowerCase()]);
  if (publicUrl !== undefined) names.add(new URL(publicUrl).hostname.toLowerCase());
  const everywhere = listen === '0.0.0.0' || listen === '::';
  return (host) => {
    if (host === undefined) return false;
    const name = host.replace(/:\d+$/, '').toLowerCase();
    // No rebinding without a name: an address is what the browser connected to.
    return names.has(name) || (everywhere && /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:]+\])$/.test(name));
  };
}
