// The same admission on Fastify and ioredis: the same script, ids checked alike, the same answers.
const cluster = require('node:cluster')
const { randomBytes } = require('node:crypto')
const { readFileSync } = require('node:fs')
const Redis = require('ioredis')

const { ADMIT_LUA, PORT, PROCESSES, REDIS_URL } = process.env
const STATUS = { sold_out: 400, duplicate: 409, unknown_coupon: 404 }
const schema = {
  body: {
    type: 'object',
    required: ['couponId', 'userId'],
    additionalProperties: false,
    properties: {
      couponId: { type: 'string', pattern: '^[A-Za-z0-9._~-]{1,64}$' },
      userId: { type: 'string', pattern: '^[^\\x00-\\x1f\\x7f-\\x9f]{1,128}$' }
    }
  }
}

function serve () {
  const redis = new Redis(REDIS_URL)
  redis.defineCommand('admit', { numberOfKeys: 5, lua: readFileSync(ADMIT_LUA, 'utf8') })
  const app = require('fastify')()
  app.post('/api/coupons/request', { schema }, async (request, reply) => {
    const { couponId, userId } = request.body
    const requestId = randomBytes(12).toString('base64url')
    const [[status]] = await redis.admit(
      `coupon:${couponId}`, `coupon:${couponId}:requested`, `coupon:${couponId}:pending`,
      'coupon-requests', `coupon:${couponId}:user:${userId}`,
      couponId, userId, requestId)
    if (status !== 'accepted') {
      return reply.code(STATUS[status]).type('application/problem+json').send(JSON.stringify({
        type: `urn:coupon-service:problem:${status}`,
        title: status,
        status: STATUS[status],
        code: status,
        detail: `${couponId}: ${status}`
      }))
    }
    reply.header('Location', `/api/coupons/${couponId}/users/${encodeURIComponent(userId)}`)
    return { message: 'request accepted', couponId, userId, requestId, status: 'pending' }
  })
  app.listen({ host: '127.0.0.1', port: Number(PORT), backlog: 2048 })
}

if (cluster.isPrimary) {
  for (let i = 0; i < Number(PROCESSES); i++) cluster.fork()
} else {
  serve()
}
