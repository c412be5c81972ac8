package edgekd.app

import android.app.Activity
import android.content.ContentValues
import android.graphics.Bitmap
import android.os.Bundle
import android.provider.MediaStore
import android.view.WindowManager
import android.widget.Button
import android.widget.EditText
import android.widget.ImageView
import android.widget.ProgressBar
import android.widget.TextView
import edgekd.BundleError
import edgekd.Model
import edgekd.OnnxRunner
import edgekd.Picture
import edgekd.Pipeline
import edgekd.Request
import edgekd.Tokenizer
import java.io.File
import java.io.IOException
import java.util.concurrent.CancellationException
import java.util.concurrent.Executors

/** One screen: prompt, seed, steps, the picture. Models run on a thread of their own. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var model: Model
    private lateinit var runner: OnnxRunner
    private lateinit var pipeline: Pipeline
    private var bitmap: Bitmap? = null
    private var isReady = false
    private var isDrawing = false

    @Volatile
    private var isCancelled = false

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        button(R.id.draw).setOnClickListener { if (isDrawing) isCancelled = true else draw() }
        button(R.id.save).setOnClickListener { save() }
        say(getString(R.string.unpacking))
        inBackground {
            model = Unpacker(assets, File(noBackupFilesDir, "model")).open()
            runner = OnnxRunner(model.folder)
            pipeline = Pipeline(model, Tokenizer.open(File(model.folder, "tokenizer")), runner)
            runOnUiThread {
                isReady = true
                findViewById<EditText>(R.id.steps).setText(model.steps.toString())
                say(getString(R.string.ready, model.name))
                showState()
            }
        }
    }

    override fun onDestroy() {
        isCancelled = true
        worker.execute { if (::runner.isInitialized) runner.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun draw() {
        val request = Request(
            prompt = text(R.id.prompt),
            seed = text(R.id.seed).toLongOrNull() ?: 0,
            steps = text(R.id.steps).toIntOrNull(),
        )
        isDrawing = true
        isCancelled = false
        showState()
        val begun = System.nanoTime()
        inBackground {
            val picture = pipeline.draw(request) { done, calls ->
                if (isCancelled) throw CancellationException()
                runOnUiThread { showStep(done, calls) }
            }
            val seconds = (System.nanoTime() - begun) / 1e9
            runOnUiThread { show(picture, request, seconds) }
        }
    }

    /** Runs work off the screen's thread and tells what goes wrong. */
    private fun inBackground(work: () -> Unit) {
        worker.execute {
            val problem = try {
                work()
                null
            } catch (error: BundleError) {
                error.message
            } catch (error: CancellationException) {
                getString(R.string.cancelled)
            } catch (error: IOException) {
                getString(R.string.failed, error.message)
            } catch (error: OutOfMemoryError) {
                getString(R.string.failed, error.message)
            }
            runOnUiThread {
                isDrawing = false
                if (problem != null) say(problem)
                showState()
            }
        }
    }

    private fun show(picture: Picture, request: Request, seconds: Double) {
        val drawn = Bitmap.createBitmap(
            picture.pixels, picture.width, picture.height, Bitmap.Config.ARGB_8888,
        )
        bitmap = drawn
        findViewById<ImageView>(R.id.picture).setImageBitmap(drawn)
        val done = getString(R.string.done, request.seed, request.steps ?: model.steps, seconds)
        say(if (picture.cut > 0) done + "\n" + getString(R.string.cut, picture.cut) else done)
    }

    private fun save() {
        val picture = bitmap ?: return
        val values = ContentValues().apply {
            put(MediaStore.Images.Media.DISPLAY_NAME, "picture-${System.currentTimeMillis()}.png")
            put(MediaStore.Images.Media.MIME_TYPE, "image/png")
        }
        val place = contentResolver.insert(MediaStore.Images.Media.EXTERNAL_CONTENT_URI, values)
        val stream = place?.let { contentResolver.openOutputStream(it) } ?: return
        stream.use { picture.compress(Bitmap.CompressFormat.PNG, 100, it) }
        say(getString(R.string.saved))
    }

    private fun showStep(done: Int, calls: Int) {
        val bar = findViewById<ProgressBar>(R.id.progress)
        bar.max = calls
        bar.progress = done
        say(getString(R.string.step, done, calls))
    }

    private fun showState() {
        button(R.id.draw).isEnabled = isReady
        button(R.id.draw).setText(if (isDrawing) R.string.cancel else R.string.draw)
        button(R.id.save).isEnabled = bitmap != null && !isDrawing
        val flag = WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON
        if (isDrawing) window.addFlags(flag) else window.clearFlags(flag)
    }

    private fun say(words: String) {
        findViewById<TextView>(R.id.status).text = words
    }

    private fun button(id: Int): Button = findViewById(id)

    private fun text(id: Int): String = findViewById<EditText>(id).text.toString()
}
