// The same admission and status poll on Fastify and ioredis: the same script and data, ids checked
// alike, the same answers.
const cluster = require('node:cluster')
const { randomBytes } = require('node:crypto')
const { readFileSync } = require('node:fs')
const Redis = require('ioredis')

const { ADMIT_LUA, PORT, PROCESSES, REDIS_URL } = process.env
const STATUS = { sold_out: 400, duplicate: 409, unknown_coupon: 404, not_requested: 404 }
const couponIdSchema = { type: 'string', pattern: '^[A-Za-z0-9._~-]{1,64}$' }
const userIdSchema = { type: 'string', pattern: '^[^\\x00-\\x1f\\x7f-\\x9f]{1,128}$' }
const body = {
  type: 'object',
  required: ['couponId', 'userId'],
  additionalProperties: false,
  properties: { couponId: couponIdSchema, userId: userIdSchema }
}
const params = {
  type: 'object',
  properties: { couponId: couponIdSchema, '*': userIdSchema }
}

function refuse (reply, couponId, code) {
  return reply.code(STATUS[code]).type('application/problem+json').send(JSON.stringify({
    type: `urn:coupon-service:problem:${code}`,
    title: code,
    status: STATUS[code],
    code,
    detail: `${couponId}: ${code}`
  }))
}

function serve () {
  const redis = new Redis(REDIS_URL)
  redis.defineCommand('admit', { numberOfKeys: 5, lua: readFileSync(ADMIT_LUA, 'utf8') })
  const app = require('fastify')()
  app.post('/api/coupons/request', { schema: { body } }, async (request, reply) => {
    const { couponId, userId } = request.body
    const requestId = randomBytes(12).toString('base64url')
    const [[status]] = await redis.admit(
      `coupon:${couponId}`, `coupon:${couponId}:requested`, `coupon:${couponId}:pending`,
      'coupon-requests', `coupon:${couponId}:user:${userId}`,
      couponId, userId, requestId)
    if (status !== 'accepted') return refuse(reply, couponId, status)
    reply.header('Location', `/api/coupons/${couponId}/users/${encodeURIComponent(userId)}`)
    return { message: 'request accepted', couponId, userId, requestId, status: 'pending' }
  })
  app.get('/api/coupons/:couponId/users/*', { schema: { params } }, async (request, reply) => {
    const { couponId, '*': userId } = request.params
    // Without MULTI: the pending mark goes when the other is there, so it is read first.
    const [[, pending], [, mark], [, [quantity, deletedAt, expiresAt]]] = await redis.pipeline()
      .hget(`coupon:${couponId}:pending`, userId)
      .get(`coupon:${couponId}:user:${userId}`)
      .hmget(`coupon:${couponId}`, 'quantity', 'deletedAt', 'expiresAt')
      .exec()
    if (deletedAt || !quantity) return refuse(reply, couponId, 'unknown_coupon')
    if (!mark && !pending) return refuse(reply, couponId, 'not_requested')
    const [requestId, entryId] = (mark || pending).split(' ')
    if (!mark) {
      reply.header('Retry-After', '1')
      return { couponId, userId, requestId, status: 'pending', pollAfterMs: 50 }
    }
    return {
      couponId,
      userId,
      requestId,
      status: expiresAt && Date.now() >= Number(expiresAt) ? 'expired' : 'issued',
      issuedAt: new Date(parseInt(entryId, 10)).toISOString()
    }
  })
  app.listen({ host: '127.0.0.1', port: Number(PORT), backlog: 2048 })
}

if (cluster.isPrimary) {
  for (let i = 0; i < Number(PROCESSES); i++) cluster.fork()
} else {
  serve()
}
