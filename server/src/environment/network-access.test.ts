import { expect, test } from 'vitest';
import { networkAccess } from './network-access.ts';

test('what is set wins over what the process was started with, one by one', () => {
  const inherited = { https_proxy: 'http://old:1', HTTP_PROXY: 'http://old:2', NO_PROXY: 'near' };
  expect(networkAccess({}, inherited)).toEqual({
    proxies: { httpProxy: 'http://old:2', httpsProxy: 'http://old:1', noProxy: 'near' },
    setProxies: {},
  });
  expect(networkAccess({ httpsProxy: 'new:3128', caBundle: 'PEM' }, inherited)).toEqual({
    proxies: { httpProxy: 'http://old:2', httpsProxy: 'http://new:3128', noProxy: 'near' },
    setProxies: { httpsProxy: 'http://new:3128' },
    caBundle: 'PEM',
  });
});

test('a proxy that is no address is an error', () => {
  expect(() => networkAccess({ httpsProxy: 'not an address' }, {})).toThrow(/no address such as/);
});
