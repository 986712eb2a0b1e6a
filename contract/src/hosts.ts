// Which names a server answers to. A page of another site that makes its own name point at this machine (DNS rebinding) comes with that
// name in the Host header, and is refused, by the server as by the gateway.

export interface KnownHosts {
  names: string[];
  /** Whether it listens on every address: then it answers to each, since no name can be rebound where none is used. */
  everyAddress: boolean;
}

export function knownHosts(listen: string, publicUrl: string | undefined, machine: string): KnownHosts {
  const names = ['localhost', '127.0.0.1', '[::1]', listen, `[${listen}]`, machine];
  if (publicUrl !== undefined) names.push(new URL(publicUrl).hostname);
  return {
    names: [...new Set(names.map((name) => name.toLowerCase()))],
    everyAddress: listen === '0.0.0.0' || listen === '::',
  };
}

/** `host`: as the Host header has it, with any port. */
export function answersTo({ names, everyAddress }: KnownHosts, host: string | undefined): boolean {
  if (host === undefined) return false;
  const name = host.replace(/:\d+$/, '').toLowerCase();
  return names.includes(name) || (everyAddress && /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:]+\])$/.test(name));
}
