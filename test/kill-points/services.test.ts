import { test } from 'vitest';
import { dieAtEachPoint, longMs } from './stories.ts';

test(
  'a web service is deployed with the replicas that it should have, and deleted with all of them, wherever the server dies',
  () => dieAtEachPoint('web-service.deploy', 'web-service.delete'),
  longMs,
);
