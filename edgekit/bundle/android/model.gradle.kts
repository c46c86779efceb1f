plugins {
    id("com.android.library")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "edgekit.model"
    compileSdk = $compile_sdk
    defaultConfig {
        minSdk = $min_sdk
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    androidResources {
        // What is compressed in an app cannot be mapped into memory. The app's own build file needs this line, too.
        noCompress += listOf("onnx", "ort", "tflite")
    }
}

kotlin {
    compilerOptions {
        jvmTarget.set(org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_17)
    }
}

dependencies {
    implementation("$dependency")
}
